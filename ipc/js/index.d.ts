/** The result of sigild_pinKey, as the relay passes it on. */
export interface PinKey {
  statement: string
  signature: string
  [member: string]: unknown
}

export interface Options {
  /**
   * The installation's identity key, pinned in the client: the uncompressed
   * P-256 point, 65 bytes, or "0x04" and 128 hexadecimal digits.
   */
  identityKey: string | Uint8Array
  /** Milliseconds since 1970; Date.now by default. */
  now?: () => number
}

export interface Pins {
  /** 1 to 64 bytes. A Uint8Array stays the caller's, to be overwritten. */
  pin: string | Uint8Array
  /** For sigild_changePin. */
  newPin?: string | Uint8Array
  /**
   * For sigild_importWallet: the private key, 32 bytes, or "0x" and 64 digits. A
   * Uint8Array stays the caller's, to be overwritten.
   */
  key?: string | Uint8Array
}

/** A JSON-RPC 2.0 answer, parsed. */
export interface Answer {
  result?: unknown
  error?: { code?: number; message?: string; data?: unknown } | null
  [member: string]: unknown
}

/** A request whose PINs are sealed: good for these parameters only, once. */
export interface SealedRequest {
  /** The params member of the JSON-RPC request. */
  params: [Record<string, unknown>]
  /** The installation's id, 16 bytes in hexadecimal. */
  installation: string
  /** SHA-256 of the parameters, which the daemon binds an exported key to. */
  digest: string
  /**
   * Gives the result if the daemon proved it. Throws ProofError for an answer
   * that is not the daemon's, and SigildError for an error.
   */
  open(answer: Answer): Promise<Record<string, unknown>>
}

/** The daemon's verified key, to seal PINs to. */
export declare class PinChannel {
  private constructor()
  /** Throws IdentityError when the key is not signed by the pinned identity key. */
  static open(pinKey: PinKey, options: Options): Promise<PinChannel>
  /** The installation's id, 16 bytes in hexadecimal. */
  readonly installation: string
  /**
   * Throws KeyExpiredError when the key is too old to be sealed to, and after an answer with
   * the reason pinKeyUnknown or sealedPinExpired: open another channel, with the key as it is then.
   */
  seal(method: string, params: object, pins: Pins): Promise<SealedRequest>
}

/** A key pair to which one private key is sealed: make it, ask, open, forget it. */
export declare class KeyRecipient {
  private constructor()
  static create(): Promise<KeyRecipient>
  /** For a key pair that was made elsewhere, 32 bytes; it has no publicKey. */
  static fromPrivateKey(bytes: Uint8Array): Promise<KeyRecipient>
  /** The member recipient of the parameters of sigild_exportAccount. */
  readonly publicKey: string
  /**
   * Gives the private key, 32 bytes, of what request.open gave. Throws
   * ExportError when it was sealed for another request or recipient.
   */
  open(request: SealedRequest, result: Record<string, unknown>): Promise<Uint8Array>
}

/** The PIN key is not signed by the pinned identity key. No PIN was sealed. */
export declare class IdentityError extends Error {}
/** The clocks of this device and the daemon are too far apart. */
export declare class ClockError extends Error {}
/** The PIN key, or the time that came with it, is too old: fetch sigild_pinKey again. */
export declare class KeyExpiredError extends Error {}
/** The answer does not come from the daemon that the PIN was sealed for. */
export declare class ProofError extends Error {}
/** The sealed key does not open for this request and recipient. */
export declare class ExportError extends Error {}
/**
 * An error of the daemon. One that is not proven has a reason from before the PIN was
 * opened; the back end may have invented it for a request that was carried out.
 */
export declare class SigildError extends Error {
  code?: number
  /** The stable name of what happened, such as "wrongPin". */
  reason?: string
  data: Record<string, unknown>
  /** Whether reason and data were proven to be the daemon's; message and code never are. */
  proven: boolean
}
