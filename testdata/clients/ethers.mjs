// ethers over its IpcSocketProvider: node ethers.mjs SOCKET ADDRESS LOCKED
import { IpcSocketProvider, Transaction, getBytes, verifyMessage, verifyTypedData } from 'ethers'
import { address, domain, locked, mail, socket, text, to, tooLong, types, want, wantHelp, wantRefusal } from './common.mjs'

const provider = new IpcSocketProvider(socket)
want('chain', (await provider.getNetwork()).chainId, 1337)
want('accounts', (await provider.listAccounts())[0].address, address)

const signer = await provider.getSigner(address)
const common = { chainId: 1337, nonce: 7, to, value: 5n, gasLimit: 50000, data: '0xa9059cbb' }
const fees = { maxFeePerGas: 20n, maxPriorityFeePerGas: 1n }
const accessList = [{ address: to, storageKeys: ['0x' + '01'.repeat(32)] }]
for (const [name, tx] of Object.entries({
  legacy: { ...common, type: 0, gasPrice: 20n },
  'access list': { ...common, type: 1, gasPrice: 20n, accessList },
  'dynamic fee': { ...common, type: 2, ...fees, accessList },
  'no type': { ...common, ...fees },
  creation: { ...common, type: 2, ...fees, to: undefined },
})) {
  const signed = Transaction.from(await signer.signTransaction(tx))
  want(`${name}: sender`, signed.from, address)
  want(`${name}: unsigned hash`, signed.unsignedHash, Transaction.from({ ...tx, type: tx.type ?? 2 }).unsignedHash)
}

want('message', verifyMessage(text, await signer.signMessage(text)), address)
const bytes = getBytes('0x00ff80')
want('bytes', verifyMessage(bytes, await signer.signMessage(bytes)), address)
want('eth_sign', verifyMessage(text, await signer._legacySignMessage(text)), address)
want('typed data', verifyTypedData(domain, types, mail, await signer.signTypedData(domain, types, mail)), address)
await wantHelp('a locked account', async () => (await provider.getSigner(locked)).signMessage(text))
await wantRefusal('a request that is too large', () => provider.send('personal_sign', [tooLong, address]))
want('and the next one', await provider.send('eth_chainId', []), '0x539')
provider.destroy()
