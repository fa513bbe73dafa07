import assert from 'node:assert/strict'
import { createHash, createHmac, generateKeyPairSync, sign } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import test from 'node:test'

import { Aes256Gcm, CipherSuite, HkdfSha256 } from '@hpke/core'
import { XWing } from '@hpke/hybridkem-x-wing'

import { ClockError, ExportError, IdentityError, KeyExpiredError, KeyRecipient, PinChannel, ProofError, SigildError } from '../index.js'
import { Answers } from '../src/answer.js'
import { fromHex, toHex, utf8 } from '../src/bytes.js'
import { canonical, plainJSON } from '../src/canonical.js'
import { associatedData, paramsDigest, plaintext } from '../src/channel.js'
import { exportData } from '../src/export.js'
import { fromDER } from '../src/identity.js'
import { withoutProof } from '../src/reasons.js'

const vectors = JSON.parse(await readFile(new URL('../../../testdata/vectors/pin-channel.json', import.meta.url), 'utf8'))
const suite = new CipherSuite({ kem: new XWing(), kdf: new HkdfSha256(), aead: new Aes256Gcm() })
const noon = Date.parse('2026-07-01T10:30:00Z')
const options = { identityKey: vectors.identityKey, now: () => noon }

/** documentedReasons are all that the daemon has. */
async function documentedReasons() {
  const text = await readFile(new URL('../../../docs/errors.md', import.meta.url), 'utf8')
  const reasons = Array.from(text.matchAll(/^\| `(\w+)` \|/gm), (m) => m[1])
  assert.ok(reasons.length > 40 && [...withoutProof].every((r) => reasons.includes(r)))
  return reasons
}

/** recipient opens a block as the daemon does. */
async function recipient(enc, privateKey = vectors.privateKey) {
  const info = fromHex(vectors.blocks[0].info)
  return suite.createRecipientContext({ recipientKey: await suite.kem.deserializePrivateKey(fromHex(privateKey)), enc: fromHex(enc), info })
}

test('vectors', async () => {
  assert.equal(vectors.blocks.length, 3)
  for (const b of vectors.blocks) {
    assert.equal(canonical(b.params), b.canonical)
    const digest = await paramsDigest(b.params)
    assert.equal(toHex(digest), b.digest)
    const aad = associatedData(b.method, fromHex(vectors.keyId), b.expires, digest)
    assert.equal(toHex(aad), b.aad)
    assert.equal(toHex(plaintext(b.pin, b.newPin, b.key)), b.plaintext)
    const context = await recipient(b.enc)
    assert.equal(toHex(new Uint8Array(await context.open(fromHex(b.ciphertext), aad))), b.plaintext)
    assert.equal(toHex(new Uint8Array(await context.export(utf8('sigild/pin-answer/v1'), 32))), b.answerKey)
    const answers = await Answers.create(fromHex(b.answerKey), aad)
    const { proof, ...result } = b.result
    assert.deepEqual(await answers.open({ result: b.result }), result)
    await assert.rejects(answers.open({ error: { code: 1, message: 'no', data: b.failure } }),
      (e) => e instanceof SigildError && e.proven && e.reason === b.failure.reason && e.data.proof === undefined)
    await assert.rejects(answers.open({ result: b.failure }), ProofError)
    await assert.rejects(answers.open({ error: { data: b.result } }), ProofError)
  }
})

test('vectors of exports', async () => {
  assert.equal(vectors.exports.length, 1)
  for (const x of vectors.exports) {
    assert.equal(toHex(exportData(x, x)), x.aad)
    const recipient = await KeyRecipient.fromPrivateKey(fromHex(x.privateKey))
    const result = { walletId: x.walletId, account: x.account, address: x.address, sealedKey: { enc: x.enc, ciphertext: x.ciphertext } }
    assert.equal(toHex(await recipient.open(x, result)), x.key)
    for (const other of [{ walletId: x.installation }, { account: 2 }, { account: -1 }, { account: '3' }, { address: '0x00' }, { address: x.recipient.slice(0, 42) },
      { sealedKey: undefined }, { sealedKey: { enc: x.enc, ciphertext: x.ciphertext.replace(/..$/, '00') } }, { sealedKey: { enc: '0x', ciphertext: x.ciphertext } }]) {
      await assert.rejects(recipient.open(x, { ...result, ...other }), ExportError)
    }
    await assert.rejects(recipient.open({ ...x, digest: x.key }, result), ExportError)
    await assert.rejects(recipient.open({ ...x, installation: x.walletId }, result), ExportError)
    await assert.rejects(recipient.open(x, undefined), ExportError)
    await assert.rejects((await KeyRecipient.create()).open(x, result), ExportError)
  }
})

test('a private key is sealed beside the PIN', async () => {
  const channel = await PinChannel.open(vectors, options)
  const key = new Uint8Array(32).fill(7)
  const params = { requestId: 'r', owner: 'alice', address: '0x00' }
  const request = await channel.seal('sigild_importWallet', params, { pin: '271828', key })
  assert.equal(request.installation, vectors.installation)
  assert.equal(request.digest, toHex(await paramsDigest(params)))
  assert.ok(key.every((b) => b === 7), 'the caller keeps its key')
  assert.equal(JSON.stringify(request.params).includes('07070707'), false)
  assert.equal(toHex(plaintext('271828', undefined, key)), toHex(plaintext('271828', undefined, toHex(key))))
  assert.equal(plaintext('x'.repeat(64), undefined, key)[66], 32)
  for (const bad of [new Uint8Array(31), new Uint8Array(33), '0x', 'aa', 7, null, toHex(key).slice(2)]) {
    await assert.rejects(channel.seal('m', {}, { pin: '271828', key: bad }), RangeError)
  }
  await assert.rejects(channel.seal('m', {}, { pin: '271828', newPin: '314159', key }), RangeError)
})

test('what is sealed is what the daemon opens', async () => {
  const channel = await PinChannel.open(vectors, options)
  assert.equal(channel.installation, vectors.installation)
  const pin = utf8('271828')
  const params = { walletId: '0x01', account: 0, skipped: undefined }
  const { params: [sent] } = await channel.seal('sigild_signMessage', params, { pin })
  assert.deepEqual(Object.keys(sent), ['walletId', 'account', 'sealedPin'])
  assert.equal(sent.sealedPin.expires, '2026-07-01T10:31:00Z')
  assert.equal(toHex(pin), toHex(utf8('271828')), 'the caller keeps its PIN')
  const digest = await paramsDigest({ walletId: '0x01', account: 0 })
  const aad = associatedData('sigild_signMessage', fromHex(vectors.keyId), noon / 1000 + 60, digest)
  const plain = new Uint8Array(await (await recipient(sent.sealedPin.enc)).open(fromHex(sent.sealedPin.ciphertext), aad))
  assert.equal(toHex(plain), toHex(plaintext('271828')))
})

/** own is an installation of this test: it signs statements of its own. */
const own = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const point = own.publicKey.export({ type: 'spki', format: 'der' }).subarray(-65)
const pinned = { identityKey: new Uint8Array(point), now: () => noon }
const signed = (statement) => ({ statement, signature: toHex(sign('sha256', 'sigild/pin-key/v1\n' + statement, own.privateKey)) })
const timed = (time) => signed(JSON.stringify({ ...JSON.parse(vectors.statement), time }))

test('a key that the identity key did not sign', async () => {
  await assert.rejects(PinChannel.open(vectors, pinned), IdentityError)
  await assert.rejects(PinChannel.open({ ...vectors, statement: vectors.statement + ' ' }, options), IdentityError)
  await assert.rejects(PinChannel.open({ ...vectors, signature: '0x30' }, options), IdentityError)
  await assert.rejects(PinChannel.open(undefined, options), IdentityError)
  await PinChannel.open(signed(vectors.statement), pinned)
  for (const statement of ['x', 'null', '{}', vectors.statement.replace('AES-256', 'AES-128'), vectors.statement.replace('"0x', '"0x00')]) {
    await assert.rejects(PinChannel.open(signed(statement), pinned), IdentityError)
  }
  for (const identityKey of ['', '0x04', toHex(point).replace('0x04', '0x02'), 1]) {
    await assert.rejects(PinChannel.open(vectors, { identityKey }), TypeError)
  }
})

test('clocks', async () => {
  const at = (text) => ({ ...options, now: () => Date.parse(text) })
  await assert.rejects(PinChannel.open(vectors, at('2026-07-01T09:57:59Z')), IdentityError)
  await assert.rejects(PinChannel.open(vectors, at('2026-07-01T11:04:01Z')), IdentityError)
  const expiry = async (pinKey, o) => (await (await PinChannel.open(pinKey, o)).seal('m', {}, { pin: '271828' })).params[0].sealedPin.expires
  // The time that is signed is believed, and no other.
  assert.equal(await expiry({ ...vectors, time: '2026-07-01T10:34:00Z' }, options), '2026-07-01T10:31:00Z')
  for (const time of ['2026-07-01T10:34:00Z', '2026-07-01T10:26:00Z', '2026-07-01T10:30:00Z']) {
    assert.equal(Date.parse(await expiry({ ...timed(time), time: '2026-07-01T10:35:00Z' }, pinned)), Date.parse(time) + 60_000)
  }
  for (const time of ['2026-07-01T10:35:01Z', '2026-07-01T10:24:59Z']) {
    await assert.rejects(PinChannel.open(timed(time), pinned), ClockError)
  }
  for (const time of ['noon', null, '', '2026-07-01T09:59:59Z', '2026-07-01T11:02:01Z']) {
    await assert.rejects(PinChannel.open(timed(time), pinned), IdentityError)
  }
  const late = await PinChannel.open(vectors, at('2026-07-01T11:01:30Z'))
  await assert.rejects(late.seal('m', {}, { pin: '271828' }), KeyExpiredError)
})

test('a key that the daemon does not take is not sealed to again', async () => {
  const refuse = (reason) => ({ error: { code: -32602, message: 'no', data: { reason, charged: false } } })
  for (const reason of await documentedReasons()) {
    const channel = await PinChannel.open(vectors, options)
    const request = await channel.seal('m', {}, { pin: '271828' })
    const waiting = await channel.seal('m', {}, { pin: '271828' })
    await assert.rejects(request.open(refuse(reason)), withoutProof.has(reason) ? SigildError : ProofError)
    const again = channel.seal('m', {}, { pin: '271828' })
    if (!['pinKeyUnknown', 'sealedPinExpired'].includes(reason)) {
      await again
      continue
    }
    await assert.rejects(again, KeyExpiredError, reason)
    await assert.rejects(waiting.open(refuse('overloaded')), SigildError) // one that was sealed before is as it was
  }
})

test('what cannot be sealed', async () => {
  const channel = await PinChannel.open(vectors, options)
  for (const params of [{ a: 2 ** 53 }, { a: [0.5] }, { a: 10n }, { a: '\ud800' }, { '\udc00': 1 }, { pin: '1' }, { newPin: '1' }, { sealedPin: 1 }, undefined]) {
    await assert.rejects(channel.seal('m', params, { pin: '271828' }))
  }
  for (const pins of [{}, { pin: '' }, { pin: 'x'.repeat(65) }, { pin: 271828 }, { pin: '271828', newPin: '' }]) {
    await assert.rejects(channel.seal('m', {}, pins), RangeError)
  }
  await assert.rejects(channel.seal('m'.repeat(256), {}, { pin: '271828' }), RangeError)
})

test('answers that are not the daemon\'s', async () => {
  const [b] = vectors.blocks
  const answers = await Answers.create(fromHex(b.answerKey), fromHex(b.aad))
  const { proof, ...bare } = b.result
  for (const result of [bare, { ...b.result, attemptsLeft: 11 }, { ...b.result, more: 1 }, { ...b.result, proof: '0x' }, { ...b.result, proof: 1 },
    { ...b.result, proof: proof.replace(/..$/, '00') }, undefined, null, [], 'x']) {
    await assert.rejects(answers.open({ result }), ProofError)
  }
  const error = (data) => answers.open({ error: { code: -1, message: 'no', data } })
  for (const data of [{ reason: 'wrongPin', attemptsLeft: 3 }, { reason: 'x', charged: true }, { reason: 'x', lockedUntil: '2030-01-01T00:00:00Z' },
    { ...b.failure, attemptsLeft: 8 }]) {
    await assert.rejects(error(data), ProofError)
  }
  for (const data of [undefined, null, 'text', {}, { reason: null }, { reason: ['overloaded'] }, { reason: 'overloaded', attemptsLeft: 9 }]) {
    await assert.rejects(error(data), ProofError)
  }
  for (const reason of await documentedReasons()) {
    for (const data of [{ reason }, { reason, charged: false }]) {
      const accepted = (e) => withoutProof.has(reason) ? e instanceof SigildError && !e.proven && e.reason === reason : e instanceof ProofError
      await assert.rejects(error(data), accepted, reason)
    }
  }
  for (const answer of [undefined, null, 'x', {}]) await assert.rejects(answers.open(answer), ProofError)
  const other = await Answers.create(fromHex(b.answerKey), utf8('another request'))
  await assert.rejects(other.open({ result: b.result }), ProofError)
})

test('canonical form', () => {
  // RFC 8785, section 3.2.3
  const sorted = '{"\\r":"Carriage Return","1":"One","\u0080":"Control\u007f","\u00f6":"Latin Small Letter O With Diaeresis","\u20ac":"Euro Sign","\ud83d\ude00":"Emoji: Grinning Face","\ufb33":"Hebrew Letter Dalet With Dagesh"}'
  assert.equal(canonical(JSON.parse(sorted)), sorted)
  assert.equal(canonical(JSON.parse('{"__proto__":{"b":1,"a":[]}}')), '{"__proto__":{"a":[],"b":1}}')
  assert.deepEqual(Object.keys(plainJSON(JSON.parse('{"__proto__":1}'))), ['__proto__'])
})

test('signatures in DER', () => {
  for (let n = 0; n < 200; n++) {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    assert.equal(fromDER(new Uint8Array(sign('sha256', String(n), privateKey))).length, 64, publicKey.type)
  }
  const good = '3006020101020102'
  assert.equal(toHex(fromDER(fromHex('0x' + good))).length, 130)
  for (const bad of ['', '30', '3006020101020182', '300602010102010200', '3106020101020102', '3007020200010201020', '3008020200010202' + '0002', '3006020001020102', '3006020101030102', '3006020181020102', '30060205010201ff']) {
    assert.equal(fromDER(fromHex('0x' + bad)), null, bad)
  }
})
