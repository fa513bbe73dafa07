// The installation's identity key: ECDSA P-256 with SHA-256 over the statement
// about a PIN key.

import { concat, fromHex, utf8 } from './bytes.js'
import { ClockError, IdentityError } from './errors.js'

const label = 'sigild/pin-key/v1\n'
const suiteName = 'MLKEM768-X25519/HKDF-SHA256/AES-256-GCM'

/** How far the clocks of client and daemon may be apart when the validity of a key is looked at whose statement has no time. */
const skew = 120_000

/** How far this device's clock may be from the time in a statement: one from long ago is of none of the daemon's keys. */
const maxOffset = 300_000

/** importIdentity reads the uncompressed point, 65 bytes. */
export async function importIdentity(key) {
  const point = typeof key === 'string' ? fromHex(key) : key
  if (!(point instanceof Uint8Array) || point.length !== 65 || point[0] !== 4) {
    throw new TypeError('the identity key must be the uncompressed point: 0x04 and 128 hexadecimal digits')
  }
  return crypto.subtle.importKey('raw', point, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['verify'])
}

/**
 * verifyStatement gives what the identity key signed, or throws an IdentityError or
 * a ClockError. Its offset is how far the daemon's clock is ahead of now, as far as the
 * statement tells: never more, so that no relay can have a block live for longer.
 */
export async function verifyStatement(identity, text, signature, now) {
  const raw = fromDER(fromHex(signature))
  if (typeof text !== 'string' || raw === null) throw new IdentityError()
  const signed = concat(utf8(label), utf8(text))
  const algorithm = { name: 'ECDSA', hash: 'SHA-256' }
  if (!(await crypto.subtle.verify(algorithm, identity, raw, signed))) throw new IdentityError()
  const statement = parse(text)
  statement.offset = offsetOf(statement, now)
  return statement
}

function offsetOf({ notBefore, notAfter, time }, now) {
  const slack = time === undefined ? skew : 0
  const daemon = time ?? now
  if (daemon < notBefore - slack || daemon > notAfter + slack) {
    throw new IdentityError('the PIN key is not valid at this time: compare the clocks')
  }
  if (Math.abs(daemon - now) > maxOffset) {
    throw new ClockError('the clock of this device is more than five minutes from that of the daemon')
  }
  return daemon - now
}

function parse(text) {
  let s
  try {
    s = JSON.parse(text)
  } catch {
    throw new IdentityError()
  }
  const out = {
    keyId: fromHex(s?.keyId), publicKey: fromHex(s?.publicKey), installation: fromHex(s?.installation),
    notBefore: Date.parse(s?.notBefore), notAfter: Date.parse(s?.notAfter),
    time: s?.time === undefined ? undefined : Date.parse(s.time),
  }
  const sound = s?.suite === suiteName && out.keyId?.length === 16 && out.publicKey?.length === 1216 &&
    out.installation?.length === 16 && [out.notBefore, out.notAfter, out.time ?? 0].every(Number.isFinite)
  if (!sound) throw new IdentityError()
  return out
}

/**
 * fromDER gives r ‖ s, 64 bytes, of SEQUENCE { INTEGER r, INTEGER s } in DER,
 * which is what WebCrypto takes; null for anything else.
 */
export function fromDER(der) {
  if (der === null || der.length < 8 || der.length > 72 || der[0] !== 0x30 || der[1] !== der.length - 2) return null
  const r = integer(der, 2)
  const s = r && integer(der, r.end)
  if (!s || s.end !== der.length) return null
  return concat(r.value, s.value)
}

function integer(der, at) {
  const length = der[at + 1]
  const end = at + 2 + length
  if (der[at] !== 0x02 || !(length >= 1) || end > der.length) return null
  let digits = der.subarray(at + 2, end)
  if (digits[0] & 0x80 || (digits[0] === 0 && digits.length > 1 && !(digits[1] & 0x80))) return null
  if (digits[0] === 0) digits = digits.subarray(1)
  if (digits.length > 32) return null
  return { value: concat(new Uint8Array(32 - digits.length), digits), end }
}
