export { PinChannel } from './src/channel.js'
export { KeyRecipient } from './src/export.js'
export { ClockError, ExportError, IdentityError, KeyExpiredError, ProofError, SigildError } from './src/errors.js'
