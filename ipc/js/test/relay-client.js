// A client behind a relay, for the tests of the daemon:
//
//	node relay-client.js SOCKET IDENTITY METHOD PARAMS PINS
//
// It makes one request and prints {"result": …}, with the "key" that an export
// gave, or {"error": NAME, "reason": …,
// "proven": …}.

import { connect } from 'node:net'

import { KeyRecipient, PinChannel } from '../index.js'

const [socket, identityKey, method, params, pins] = process.argv.slice(2)

function call(name, list) {
  return new Promise((resolve, reject) => {
    const connection = connect(socket, () => connection.write(JSON.stringify({ jsonrpc: '2.0', id: 1, method: name, params: list })))
    let text = ''
    connection.setEncoding('utf8').on('error', reject).on('end', () => reject(new Error('the connection ended')))
    connection.on('data', (part) => {
      text += part
      if (!text.endsWith('\n')) return
      connection.destroy()
      resolve(JSON.parse(text))
    })
  })
}

async function run() {
  const channel = await PinChannel.open((await call('sigild_pinKey', [{}])).result, { identityKey })
  const given = JSON.parse(params)
  const recipient = method === 'sigild_exportAccount' ? await KeyRecipient.create() : null
  if (recipient) given.recipient = recipient.publicKey
  const request = await channel.seal(method, given, JSON.parse(pins))
  const result = await request.open(await call(method, request.params))
  const key = recipient && Buffer.from(await recipient.open(request, result)).toString('hex')
  return { result, ...(key && { key: '0x' + key }) }
}

const outcome = await run().catch((e) => ({ error: e.name, reason: e.reason, proven: e.proven, data: e.data, message: e.message }))
console.log(JSON.stringify(outcome))
