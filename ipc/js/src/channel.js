// Sealing PINs to the daemon.

import { Aes256Gcm, CipherSuite, HkdfSha256 } from '@hpke/core'
import { XWing } from '@hpke/hybridkem-x-wing'

import { Answers } from './answer.js'
import { bigEndian, concat, fromHex, sha256, toHex, utf8 } from './bytes.js'
import { canonical, plainJSON } from './canonical.js'
import { KeyExpiredError } from './errors.js'
import { importIdentity, verifyStatement } from './identity.js'

const sealLabel = 'sigild/pin/v1'
const answerLabel = 'sigild/pin-answer/v1'
const plaintextSize = 160
const maxPIN = 64
const keySize = 32

/** A block expires so many milliseconds ahead; the daemon takes up to 120 seconds. */
const lifetime = 60_000

/** Reasons for which the daemon's key must be fetched again before the next PIN is sealed. */
const ofTheKey = new Set(['pinKeyUnknown', 'sealedPinExpired'])

/** suite is MLKEM768-X25519 (X-Wing), HKDF-SHA256, AES-256-GCM. */
export const suite = new CipherSuite({ kem: new XWing(), kdf: new HkdfSha256(), aead: new Aes256Gcm() })

export class PinChannel {
  #statement
  #publicKey
  #now
  #outdated = false

  /** open verifies a result of sigild_pinKey under the pinned identity key. */
  static async open(pinKey, { identityKey, now = Date.now }) {
    const identity = await importIdentity(identityKey)
    const c = new PinChannel()
    c.#statement = await verifyStatement(identity, pinKey?.statement, pinKey?.signature, now())
    c.#now = () => now() + c.#statement.offset
    c.#publicKey = await suite.kem.deserializePublicKey(c.#statement.publicKey)
    return c
  }

  /** installation is the id of the installation, 16 bytes in hexadecimal. */
  get installation() {
    return toHex(this.#statement.installation)
  }

  /** seal gives the parameters of a request with the PINs, or a PIN and a key, sealed for it. */
  async seal(method, params, { pin, newPin, key }) {
    const now = this.#now()
    if (this.#outdated || now + lifetime > this.#statement.notAfter) throw new KeyExpiredError()
    const object = plainJSON(params)
    for (const name of ['pin', 'newPin', 'sealedPin']) {
      if (name in object) throw new TypeError(`${name} must not stand among the parameters`)
    }
    const expires = Math.floor((now + lifetime) / 1000)
    const digest = await paramsDigest(object)
    const aad = associatedData(method, this.#statement.keyId, expires, digest)
    const plain = plaintext(pin, newPin, key)
    try {
      const sealed = await this.#seal(object, aad, plain, expires)
      return { ...sealed, installation: this.installation, digest: toHex(digest) }
    } finally {
      plain.fill(0)
    }
  }

  async #seal(object, aad, plain, expires) {
    const info = concat(utf8(sealLabel), this.#statement.installation, this.#statement.keyId)
    const sender = await suite.createSenderContext({ recipientPublicKey: this.#publicKey, info })
    const ciphertext = new Uint8Array(await sender.seal(plain, aad))
    const key = new Uint8Array(await sender.export(utf8(answerLabel), 32))
    const answers = await Answers.create(key, aad)
    key.fill(0)
    const sealedPin = {
      keyId: toHex(this.#statement.keyId), enc: toHex(new Uint8Array(sender.enc)), ciphertext: toHex(ciphertext),
      expires: rfc3339(expires),
    }
    return { params: [{ ...object, sealedPin }], open: (answer) => this.#open(answers, answer) }
  }

  /**
   * #open heeds what the daemon says of the key: that it has another one, or that its
   * clock is not the one that this channel goes by, as one of the two was set. Also
   * when the back end made it up: then it has a key fetched, which it could anyway.
   */
  async #open(answers, answer) {
    try {
      return await answers.open(answer)
    } catch (e) {
      if (ofTheKey.has(e.reason)) this.#outdated = true
      throw e
    }
  }
}

/** paramsDigest is SHA-256 over the canonical form of the parameters. */
export const paramsDigest = async (object) => sha256(utf8(canonical(object)))

/** associatedData binds a block to its request. */
export function associatedData(method, keyId, expires, digest) {
  const name = utf8(method)
  if (name.length > 255) throw new RangeError('the name of the method is longer than 255 bytes')
  return concat(utf8(sealLabel), new Uint8Array([name.length]), name, keyId, bigEndian(expires), digest)
}

/** plaintext is both PINs and the key, each behind its length, and zeros. */
export function plaintext(pin, newPin, key) {
  if (key !== undefined && newPin !== undefined) throw new RangeError('a key has no new PIN beside it')
  const first = pinBytes(pin)
  const second = newPin === undefined ? new Uint8Array(0) : pinBytes(newPin)
  const third = key === undefined ? new Uint8Array(0) : keyBytes(key)
  const out = new Uint8Array(plaintextSize)
  out[0] = first.length
  out.set(first, 1)
  out[1 + first.length] = second.length
  out.set(second, 2 + first.length)
  if (key !== undefined) {
    out[2 + first.length + second.length] = third.length
    out.set(third, 3 + first.length + second.length)
  }
  if (typeof pin === 'string') first.fill(0)
  if (typeof newPin === 'string') second.fill(0)
  if (typeof key === 'string') third.fill(0)
  return out
}

function pinBytes(pin) {
  const bytes = typeof pin === 'string' ? utf8(pin) : pin
  if (!(bytes instanceof Uint8Array) || bytes.length < 1 || bytes.length > maxPIN) {
    throw new RangeError('a PIN has 1 to 64 bytes')
  }
  return bytes
}

/** keyBytes are the 32 bytes of a private key, also from hexadecimal with 0x. */
function keyBytes(key) {
  const bytes = typeof key === 'string' ? fromHex(key) : key
  if (!(bytes instanceof Uint8Array) || bytes.length !== keySize) {
    throw new RangeError('a private key has 32 bytes')
  }
  return bytes
}

const rfc3339 = (seconds) => new Date(seconds * 1000).toISOString().replace('.000Z', 'Z')
