// The reasons that the daemon gives to a request whose sealed PIN it has not
// opened. Everything that it says later is proven. A test of the daemon holds
// this list against its table of errors.

export const withoutProof = new Set([
  'parse',
  'invalidRequest',
  'methodNotFound',
  'invalidParams',
  'tooLarge',
  'tooDeep',
  'batchTooLong',
  'overloaded',
  'peerNotAllowed',
  'pinKeyUnknown',
  'sealedPinUsed',
  'sealedPinExpired',
  'sealedPinInvalid',
])
