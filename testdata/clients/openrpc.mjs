// The answer of rpc.discover against OpenRPC's own meta-schema: node openrpc.mjs SOCKET
import { createConnection } from 'node:net'
import { createInterface } from 'node:readline/promises'
import Ajv from 'ajv'
import openRPC from '@open-rpc/meta-schema'
import jsonSchema from '@json-schema-tools/meta-schema'

const socket = createConnection(process.argv[2])
socket.write('{"jsonrpc":"2.0","id":1,"method":"rpc.discover","params":[]}\n')
const { value: line } = await createInterface({ input: socket })[Symbol.asyncIterator]().next()
socket.end()
const { result: document } = JSON.parse(line)

// Both are draft 7 with words of their own, which say nothing to a validator.
const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true })
ajv.addSchema(jsonSchema.default ?? jsonSchema, 'https://meta.json-schema.tools')
const validate = ajv.compile(openRPC.default ?? openRPC)

function check(what, ok, errors) {
  if (!ok) {
    throw new Error(`${what}: ${JSON.stringify(errors, null, 1)}`)
  }
  console.log(`ok ${what}`)
}

check('the document', validate(document), validate.errors)
for (const [what, spoil] of Object.entries({
  'a method without a name': copy => delete copy.methods[0].name,
  'a parameter without a schema': copy => delete copy.methods.find(m => m.params.length > 0).params[0].schema,
  'a member that OpenRPC has not': copy => { copy.methods[0].returns = 'string' },
  'a type that JSON Schema has not': copy => { copy.methods[0].result.schema = { type: 'bytes' } },
})) {
  const copy = structuredClone(document)
  spoil(copy)
  check(`${what} is noticed`, !validate(copy), 'it is not')
}

// Every schema can be used, and so every reference leads to one.
const used = new Ajv({ strict: false, validateFormats: false })
used.addSchema(document, 'openrpc')
for (const [number, method] of document.methods.entries()) {
  for (const place of [...method.params.keys()].map(n => `params/${n}`).concat('result')) {
    used.compile({ $ref: `openrpc#/methods/${number}/${place}/schema` })
  }
  check(method.name, true)
}
