// What can go wrong; match on the class, or on name.

/** The PIN key is not signed by the pinned identity key. No PIN was sealed. */
export class IdentityError extends Error {
  constructor(message = 'the PIN key is not signed by the pinned identity key') {
    super(message)
    this.name = 'IdentityError'
  }
}

/** The clocks of this device and the daemon are too far apart. */
export class ClockError extends Error {
  constructor(message) {
    super(message)
    this.name = 'ClockError'
  }
}

/** The PIN key, or the time that came with it, is too old: fetch sigild_pinKey again. */
export class KeyExpiredError extends Error {
  constructor() {
    super('the PIN key is too old: fetch sigild_pinKey again')
    this.name = 'KeyExpiredError'
  }
}

/** The answer does not come from the daemon that the PIN was sealed for. */
export class ProofError extends Error {
  constructor() {
    super('the answer does not come from the daemon that the PIN was sealed for')
    this.name = 'ProofError'
  }
}

/** The sealed key does not open for this request and recipient. */
export class ExportError extends Error {
  constructor() {
    super('the sealed key does not open for this request')
    this.name = 'ExportError'
  }
}

/** An error of the daemon; proven says whether it was proven to be the daemon's. */
export class SigildError extends Error {
  constructor(error, data, proven) {
    super(typeof error.message === 'string' ? error.message : 'the daemon answered with an error')
    this.name = 'SigildError'
    this.code = error.code
    this.reason = data.reason
    this.data = data
    this.proven = proven
  }
}
