// Private keys that go out, sealed to whoever asked for them.

import { concat, fromHex, toHex, utf8 } from './bytes.js'
import { suite } from './channel.js'
import { ExportError } from './errors.js'

const label = 'sigild/export/v1'

/** KeyRecipient is a key pair for one sigild_exportAccount. */
export class KeyRecipient {
  #pair
  #publicKey

  static async create() {
    const r = new KeyRecipient()
    r.#pair = await suite.kem.generateKeyPair()
    r.#publicKey = toHex(new Uint8Array(await suite.kem.serializePublicKey(r.#pair.publicKey)))
    return r
  }

  /** fromPrivateKey is for a key pair that was made elsewhere: 32 bytes. */
  static async fromPrivateKey(bytes) {
    const r = new KeyRecipient()
    r.#pair = { privateKey: await suite.kem.deserializePrivateKey(bytes) }
    return r
  }

  /** publicKey is the member recipient of the parameters. */
  get publicKey() {
    return this.#publicKey
  }

  /**
   * open gives the private key, 32 bytes, of a result that the request opened,
   * which is to say that the daemon proved it.
   */
  async open(request, result) {
    const aad = exportData(request, result)
    const enc = fromHex(result?.sealedKey?.enc)
    const ciphertext = fromHex(result?.sealedKey?.ciphertext)
    if (aad === null || enc === null || ciphertext === null) throw new ExportError()
    try {
      const recipient = await suite.createRecipientContext({ recipientKey: this.#pair.privateKey, enc, info: utf8(label) })
      return new Uint8Array(await recipient.open(ciphertext, aad))
    } catch {
      throw new ExportError()
    }
  }
}

/** exportData binds a key to its installation, wallet, account, address and request; null for what is none. */
export function exportData({ installation, digest }, { walletId, account, address } = {}) {
  const parts = [fromHex(installation), fromHex(walletId), fromHex(address), fromHex(digest)]
  const sizes = [16, 16, 20, 32]
  if (parts.some((p, n) => p?.length !== sizes[n])) return null
  if (!Number.isInteger(account) || account < 0 || account > 0xffffffff) return null
  const index = new Uint8Array(4)
  new DataView(index.buffer).setUint32(0, account)
  return concat(utf8(label), parts[0], parts[1], index, parts[2], parts[3])
}
