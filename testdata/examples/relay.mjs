// An example of a wallet back end on sigild, in plain Node without dependencies.
// docs/integrate.md explains it, and the tests run it. It reads PINs from
// standard input, a line each: a real one gets them, sealed, from its users.
//
//	node relay.mjs SOCKET IDENTITY-KEY

import { createHash, createPublicKey, verify as verifySignature } from 'node:crypto'
import { createConnection } from 'node:net'
import { createInterface } from 'node:readline/promises'

// JSON-RPC 2.0 over a bare stream of JSON values. sigild ends each answer with
// a newline, and JSON text holds none, so that lines are values.
class Client {
  #path; #socket; #next = 1; #pending = new Map()
  constructor(path) { this.#path = path }

  async #connect() {
    if (this.#socket && !this.#socket.destroyed) return this.#socket
    const socket = createConnection(this.#path)
    this.#socket = socket
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject))
    createInterface({ input: socket }).on('line', line => this.#deliver(JSON.parse(line)))
    socket.on('error', () => {}).once('close', () => {
      for (const { reject } of this.#pending.values()) reject(Object.assign(new Error('connection lost'), { lost: true }))
      this.#pending.clear()
    })
    return socket
  }

  #deliver(answer) {
    const call = this.#pending.get(answer.id)
    this.#pending.delete(answer.id)
    if (answer.error) call?.reject(Object.assign(new Error(answer.error.message), answer.error.data))
    else call?.resolve(answer.result)
  }

  async call(method, params) {
    const socket = await this.#connect()
    const id = this.#next++
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject })
      socket.write(JSON.stringify({ jsonrpc: '2.0', id, method, params: [params] }) + '\n')
    })
  }

  // again repeats a call, unchanged, while the daemon says that it may succeed
  // later or its answer was lost. What has a requestId is done once all the same.
  async again(method, params) {
    for (let tries = 1; ; tries++) {
      try {
        return await this.call(method, params)
      } catch (error) {
        if ((error.retryAfter === undefined && !error.lost) || tries === 10) throw error
        const wait = error.retryAfter === undefined ? 100 * tries : 1000 * error.retryAfter
        await new Promise(resolve => setTimeout(resolve, wait))
      }
    }
  }

  close() { this.#socket?.end() }
}

// canonical is RFC 8785 for what this relay sends: texts and whole numbers.
function canonical(value) {
  if (Array.isArray(value)) return '[' + value.map(canonical).join(',') + ']'
  if (value === null || typeof value !== 'object') return JSON.stringify(value)
  return '{' + Object.keys(value).sort().map(name => JSON.stringify(name) + ':' + canonical(value[name])).join(',') + '}'
}

// verify checks that the pinned identity key signed the receipt, and that it is
// about these parameters, which hold no PIN here.
function verify(receipt, identityKey, params) {
  const point = Buffer.from(identityKey.slice(4), 'hex') // without 0x04
  const key = createPublicKey({ format: 'jwk', key: { kty: 'EC', crv: 'P-256',
    x: point.subarray(0, 32).toString('base64url'), y: point.subarray(32).toString('base64url') } })
  const signed = Buffer.from('sigild/receipt/v1\n' + receipt.statement)
  if (!verifySignature('sha256', signed, key, Buffer.from(receipt.signature.slice(2), 'hex'))) {
    throw new Error('the receipt is not signed by the pinned identity key')
  }
  const statement = JSON.parse(receipt.statement)
  const digest = '0x' + createHash('sha256').update(canonical(params)).digest('hex')
  if (statement.requestDigest !== digest) throw new Error('the receipt is about another request')
  return statement
}

const [socket, identityKey] = process.argv.slice(2)
const client = new Client(socket)
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const ask = async question => {
  console.log('asking for', question)
  return (await lines.next()).value
}

// The wallet is made once, however often this is called.
const signUp = { requestId: 'signup-4711', owner: 'alice', externalId: 'user:4711' }
const made = await client.again('sigild_createWallet', { ...signUp, pin: await ask('a PIN for the new wallet') })
const walletId = verify(made.receipt, identityKey, signUp).walletId
console.log('wallet', walletId, 'existed', made.existing)
console.log('address', made.wallet.accounts[0].address)

// One transaction with the PIN; a wrong one is the user's to mend.
const transaction = {
  type: '0x2', chainId: '0x1', nonce: '0x0', to: '0x9858EfFD232B4033E47d90003D41EC34EcaEda94',
  value: '0x2386f26fc10000', gas: '0x5208', maxFeePerGas: '0x4a817c800', maxPriorityFeePerGas: '0x3b9aca00',
}
for (let signed; !signed;) {
  try {
    signed = await client.again('sigild_signTransaction', { walletId, transaction, pin: await ask('the PIN') })
    console.log('transaction', signed.raw)
  } catch (error) {
    if (error.reason !== 'wrongPin') throw error
    console.log('wrong PIN, attempts left:', error.attemptsLeft)
  }
}

// Several messages with one PIN.
async function unlock() {
  const terms = { signatures: 2, seconds: 300, totalValue: '0x0', policy: { operations: ['message'] } }
  const unlocked = await client.again('sigild_unlock', { walletId, terms, pin: await ask('the PIN, to unlock') })
  console.log('unlocked for', unlocked.signatures, 'signatures')
}
const greet = async () => {
  const message = '0x' + Buffer.from('hello').toString('hex')
  console.log('message', (await client.again('sigild_signMessage', { walletId, message })).signature)
}
await unlock()
for (let n = 0; n < 3; n++) {
  try {
    await greet()
  } catch (error) { // used up, out of time, or the token lost the keys
    if (error.reason !== 'unlockRequired' && error.reason !== 'relock') throw error
    console.log('unlocking again')
    await unlock()
    await greet()
  }
}

// The PIN is changed once.
const change = { requestId: 'pin-4711-1', walletId }
const changed = await client.again('sigild_changePin', { ...change, pin: await ask('the old PIN'), newPin: await ask('the new PIN') })
verify(changed.receipt, identityKey, change)
console.log('PIN changed')

client.close()
process.stdin.destroy()
