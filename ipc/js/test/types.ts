// Compiled, not run: the types fit the way that the package is used.
import { KeyRecipient, PinChannel, SigildError, type SealedRequest } from '../index.js'

export async function sign(call: (method: string, params: unknown[]) => Promise<{ result?: unknown }>, identityKey: string): Promise<unknown> {
  const { result } = await call('sigild_pinKey', [{}])
  const channel = await PinChannel.open(result as { statement: string; signature: string }, { identityKey })
  const request: SealedRequest = await channel.seal('sigild_signMessage', { address: '0x', message: '0x' }, { pin: '271828' })
  try {
    return (await request.open(await call('sigild_signMessage', request.params))).signature
  } catch (error) {
    if (error instanceof SigildError && error.reason === 'wrongPin') return error.data.attemptsLeft
    throw error
  }
}

export async function move(call: (method: string, params: unknown[]) => Promise<{ result?: unknown }>, channel: PinChannel, address: string): Promise<Uint8Array> {
  const recipient = await KeyRecipient.create()
  const request = await channel.seal('sigild_exportAccount', { address, recipient: recipient.publicKey }, { pin: '271828' })
  const key = await recipient.open(request, await request.open(await call('sigild_exportAccount', request.params)))
  const taken = await channel.seal('sigild_importWallet', { requestId: 'r', owner: 'alice', address }, { pin: '271828', key })
  await taken.open(await call('sigild_importWallet', taken.params))
  return key
}
