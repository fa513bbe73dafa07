// Byte strings: hexadecimal with 0x, concatenation, SHA-256.

export const utf8 = (text) => new TextEncoder().encode(text)

export function concat(...parts) {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0))
  let at = 0
  for (const p of parts) {
    out.set(p, at)
    at += p.length
  }
  return out
}

/** fromHex reads 0x and pairs of digits; it returns null for anything else. */
export function fromHex(text) {
  if (typeof text !== 'string' || !/^0x([0-9a-fA-F]{2})*$/.test(text)) return null
  const out = new Uint8Array((text.length - 2) / 2)
  for (let n = 0; n < out.length; n++) out[n] = parseInt(text.slice(2 * n + 2, 2 * n + 4), 16)
  return out
}

export const toHex = (bytes) => '0x' + Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('')

export const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))

/** bigEndian is a whole number up to 2^53-1 in 8 bytes. */
export function bigEndian(n) {
  const out = new Uint8Array(8)
  new DataView(out.buffer).setBigUint64(0, BigInt(n))
  return out
}
