export { PinChannel } from './src/channel.js'
export { ClockError, IdentityError, KeyExpiredError, ProofError, SigildError } from './src/errors.js'
