// Answers, and the proof that they are the daemon's.

import { canonical } from './canonical.js'
import { concat, fromHex, sha256, utf8 } from './bytes.js'
import { ProofError, SigildError } from './errors.js'
import { withoutProof } from './reasons.js'

const kinds = { result: 1, error: 2 }

/** Answers checks the answer to one sealed request. */
export class Answers {
  #key
  #request

  /** key is the exported secret, aad the associated data of the block. */
  static async create(key, aad) {
    const a = new Answers()
    a.#key = await crypto.subtle.importKey('raw', key, { name: 'HMAC', hash: 'SHA-256' }, false, ['verify'])
    a.#request = await sha256(aad)
    return a
  }

  /** open gives the result of a JSON-RPC answer, or throws. */
  async open(answer) {
    if (!isObject(answer)) throw new ProofError()
    if (answer.error === undefined || answer.error === null) return this.#proven('result', answer.result)
    const data = isObject(answer.error.data) ? answer.error.data : {}
    if (data.proof !== undefined) {
      throw new SigildError(answer.error, await this.#proven('error', data), true)
    }
    // An error from before the block was opened has no proof, and says nothing of
    // the wallet. It may be a lie: the request may have been carried out.
    if (!withoutProof.has(data.reason) || data.attemptsLeft !== undefined || data.lockedUntil !== undefined || data.charged === true) {
      throw new ProofError()
    }
    throw new SigildError(answer.error, data, false)
  }

  async #proven(kind, object) {
    if (!isObject(object)) throw new ProofError()
    const { proof, ...rest } = object
    const given = fromHex(proof)
    if (given === null || given.length !== 32) throw new ProofError()
    const digest = await sha256(utf8(canonical(rest)))
    const covered = concat(new Uint8Array([kinds[kind]]), this.#request, digest)
    if (!(await crypto.subtle.verify('HMAC', this.#key, given, covered))) throw new ProofError()
    return rest
  }
}

const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value)
