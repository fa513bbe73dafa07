// A client behind a relay, for the tests of the daemon:
//
//	node relay-client.js SOCKET IDENTITY METHOD PARAMS PINS
//
// It makes one request and prints {"result": …} or {"error": NAME, "reason": …,
// "proven": …}.

import { connect } from 'node:net'

import { PinChannel } from '../index.js'

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
  const request = await channel.seal(method, JSON.parse(params), JSON.parse(pins))
  return { result: await request.open(await call(method, request.params)) }
}

const outcome = await run().catch((e) => ({ error: e.name, reason: e.reason, proven: e.proven, data: e.data, message: e.message }))
console.log(JSON.stringify(outcome))
