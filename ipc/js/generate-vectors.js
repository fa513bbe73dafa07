// Adds to testdata/vectors/pin-channel.json what is not there yet: node
// generate-vectors.js. What is there stays byte by byte, since others may have
// built on it. It shares no code with the Go side, and with this package only the
// canonical form. The keys in it are public, never to be used.

import { createHash, createHmac, generateKeyPairSync, sign } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'

import { Aes256Gcm, CipherSuite, HkdfSha256 } from '@hpke/core'
import { XWing } from '@hpke/hybridkem-x-wing'

import { canonical } from './src/canonical.js'

const sha256 = (...parts) => parts.reduce((h, p) => h.update(p), createHash('sha256')).digest()
const hex = (b) => '0x' + Buffer.from(b).toString('hex')
const file = new URL('../../testdata/vectors/pin-channel.json', import.meta.url)
const before = await readFile(file, 'utf8').then(JSON.parse, () => ({ blocks: [] }))
const u64 = (n) => Buffer.from(BigInt(n).toString(16).padStart(16, '0'), 'hex')

const suite = new CipherSuite({ kem: new XWing(), kdf: new HkdfSha256(), aead: new Aes256Gcm() })
const pair = await suite.kem.deriveKeyPair(new Uint8Array(sha256('sigild/test/pin-channel')))
const publicKey = Buffer.from(await suite.kem.serializePublicKey(pair.publicKey))
const keyId = sha256('sigild/pin-key-id/v1', publicKey).subarray(0, 16)
const installation = sha256('sigild/test/installation').subarray(0, 16)

const identity = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const spki = identity.publicKey.export({ type: 'spki', format: 'der' })
const statement = JSON.stringify({
  keyId: hex(keyId), publicKey: hex(publicKey), suite: 'MLKEM768-X25519/HKDF-SHA256/AES-256-GCM',
  notBefore: '2026-07-01T10:00:00Z', notAfter: '2026-07-01T11:02:00Z', installation: hex(installation),
})

async function block({ method, params, pin, newPin, key: secret, expires, result, failure }) {
  const there = before.blocks.find((b) => b.method === method)
  if (there) return there
  const digest = sha256(canonical(params))
  const info = Buffer.concat([Buffer.from('sigild/pin/v1'), installation, keyId])
  const aad = Buffer.concat([Buffer.from('sigild/pin/v1'), Buffer.from([method.length]), Buffer.from(method), keyId, u64(expires), digest])
  const plain = Buffer.alloc(160)
  plain.write(String.fromCharCode(pin.length) + pin + String.fromCharCode(newPin?.length ?? 0) + (newPin ?? ''), 'latin1')
  if (secret) Buffer.concat([Buffer.from([secret.length]), secret]).copy(plain, 2 + pin.length + (newPin?.length ?? 0))
  const sender = await suite.createSenderContext({ recipientPublicKey: pair.publicKey, info: new Uint8Array(info) })
  const ciphertext = await sender.seal(new Uint8Array(plain), new Uint8Array(aad))
  const key = Buffer.from(await sender.export(new TextEncoder().encode('sigild/pin-answer/v1'), 32))
  const prove = (kind, answer) =>
    ({ ...answer, proof: hex(createHmac('sha256', key).update(Buffer.from([kind])).update(sha256(aad)).update(sha256(canonical(answer))).digest()) })
  return {
    method, params, canonical: canonical(params), digest: hex(digest), pin, newPin, key: secret && hex(secret), expires,
    info: hex(info), aad: hex(aad), plaintext: hex(plain), enc: hex(new Uint8Array(sender.enc)), ciphertext: hex(new Uint8Array(ciphertext)),
    answerKey: hex(key), result: prove(1, result), failure: prove(2, failure),
  }
}

const blocks = [
  await block({
    method: 'sigild_signMessage', expires: 1782900060, pin: '271828',
    params: { walletId: '0x5290ab7bd1a34c0e8bd5b6b9e1f02ba9', message: '0x68656c6c6f', account: 1 },
    result: { signature: '0x01', digest: '0x02', attemptsLeft: 10 },
    failure: { reason: 'wrongPin', attemptsLeft: 9, charged: true },
  }),
  await block({
    method: 'sigild_changePin', expires: 1782900120, pin: ' ~'.repeat(32), newPin: 'x'.repeat(64),
    params: { walletId: '0x5290ab7bd1a34c0e8bd5b6b9e1f02ba9', requestId: 'é\u20ac\ud83d\ude00"\\\n', z: { b: [true, null, -9007199254740991], a: '' } },
    result: { existing: false, wallet: { owner: '<&>\u2028', attemptsLeft: 10 }, seconds: 0.5, large: 1e21 },
    failure: { reason: 'overloaded', retryAfter: 1.5, charged: false },
  }),
  await block({
    method: 'sigild_importWallet', expires: 1782900060, pin: '271828', key: sha256('sigild/test/imported-key'),
    params: { requestId: 'r', owner: 'alice', address: '0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed' },
    result: { existing: false, wallet: { owner: 'alice', attemptsLeft: 10 } },
    failure: { reason: 'addressMismatch', charged: false },
  }),
]

// A private key that goes out, sealed to a key pair of whoever asked for it.
async function exported({ walletId, account, address, digest, key }) {
  const recipient = await suite.kem.deriveKeyPair(new Uint8Array(sha256('sigild/test/recipient')))
  const u32 = Buffer.alloc(4)
  u32.writeUInt32BE(account)
  const info = Buffer.from('sigild/export/v1')
  const aad = Buffer.concat([info, installation, walletId, u32, address, digest])
  const sender = await suite.createSenderContext({ recipientPublicKey: recipient.publicKey, info: new Uint8Array(info) })
  const ciphertext = await sender.seal(new Uint8Array(key), new Uint8Array(aad))
  return {
    privateKey: hex(new Uint8Array(await suite.kem.serializePrivateKey(recipient.privateKey))),
    recipient: hex(new Uint8Array(await suite.kem.serializePublicKey(recipient.publicKey))),
    installation: hex(installation), walletId: hex(walletId), account, address: hex(address), digest: hex(digest),
    info: hex(info), aad: hex(aad), enc: hex(new Uint8Array(sender.enc)), ciphertext: hex(new Uint8Array(ciphertext)), key: hex(key),
  }
}

const exports = before.exports ?? [await exported({
  walletId: sha256('sigild/test/wallet').subarray(0, 16), account: 3, address: sha256('sigild/test/address').subarray(0, 20),
  digest: sha256('sigild/test/digest'), key: sha256('sigild/test/exported-key'),
})]

const out = {
  source: 'ipc/js/generate-vectors.js: @hpke/core 1.9.0, @hpke/hybridkem-x-wing 0.7.0, node:crypto',
  identityKey: before.identityKey ?? hex(spki.subarray(spki.length - 65)), statement,
  signature: before.signature ?? hex(sign('sha256', Buffer.from('sigild/pin-key/v1\n' + statement), identity.privateKey)),
  privateKey: hex(new Uint8Array(await suite.kem.serializePrivateKey(pair.privateKey))),
  publicKey: hex(publicKey), keyId: hex(keyId), installation: hex(installation), blocks, exports,
}
await writeFile(file, JSON.stringify(out, null, 2) + '\n')
