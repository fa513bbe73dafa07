// viem over its ipc transport: node viem.mjs SOCKET ADDRESS LOCKED
import { createWalletClient, keccak256, parseTransaction, publicActions, recoverMessageAddress, recoverTransactionAddress,
  recoverTypedDataAddress, serializeTransaction } from 'viem'
import { ipc } from 'viem/node'
import { address, domain, locked, mail, socket, text, to, tooLong, types, want, wantHelp, wantRefusal } from './common.mjs'

const client = createWalletClient({ account: address, transport: ipc(socket) }).extend(publicActions)
want('chain', await client.getChainId(), 1337)
want('accounts', (await client.getAddresses())[0], address)

const common = { chain: null, nonce: 7, to, value: 5n, gas: 50000n, data: '0xa9059cbb' }
const fees = { maxFeePerGas: 20n, maxPriorityFeePerGas: 1n }
const accessList = [{ address: to, storageKeys: ['0x' + '01'.repeat(32)] }]
const unsignedHash = (tx) => keccak256(serializeTransaction({ ...tx, r: undefined, s: undefined, v: undefined, yParity: undefined }))
for (const [name, tx] of Object.entries({
  legacy: { ...common, type: 'legacy', gasPrice: 20n },
  'access list': { ...common, type: 'eip2930', gasPrice: 20n, accessList },
  'dynamic fee': { ...common, type: 'eip1559', ...fees, accessList },
  'no type': { ...common, ...fees },
  creation: { ...common, type: 'eip1559', ...fees, to: undefined },
})) {
  const serializedTransaction = await client.signTransaction(tx)
  want(`${name}: sender`, await recoverTransactionAddress({ serializedTransaction }), address)
  const { chain, ...fields } = tx
  want(`${name}: unsigned hash`, unsignedHash(parseTransaction(serializedTransaction)), unsignedHash({ ...fields, chainId: 1337 }))
}

want('message', await recoverMessageAddress({ message: text, signature: await client.signMessage({ message: text }) }), address)
const message = { raw: '0x00ff80' }
want('bytes', await recoverMessageAddress({ message, signature: await client.signMessage({ message }) }), address)
const typed = { domain, types, primaryType: 'Mail', message: mail }
want('typed data', await recoverTypedDataAddress({ ...typed, signature: await client.signTypedData(typed) }), address)
await wantHelp('a locked account', () => client.signMessage({ account: locked, message: text }))
await wantRefusal('a request that is too large', () => client.signMessage({ message: { raw: tooLong } }))
want('and the next one', await client.request({ method: 'net_version' }), '1337')
process.exit(0) // the transport keeps its connection
