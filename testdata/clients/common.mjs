// What both libraries sign: complete, since sigild fills nothing in.
export const socket = process.argv[2]
export const address = process.argv[3]
export const locked = process.argv[4]

export const to = '0x9858EfFD232B4033E47d90003D41EC34EcaEda94'
export const domain = { name: 'Token', version: '1', chainId: 1337, verifyingContract: to }
export const types = {
  Person: [{ name: 'name', type: 'string' }, { name: 'wallet', type: 'address' }],
  Mail: [{ name: 'from', type: 'Person' }, { name: 'amounts', type: 'uint256[]' }, { name: 'data', type: 'bytes' }],
}
export const mail = { from: { name: 'Žofie 😀 }{', wallet: to }, amounts: [1n, 2n ** 200n], data: '0x00ff' }
export const text = 'hello, Žofie 😀 }{'

export function want(what, got, wanted) {
  if (String(got).toLowerCase() !== String(wanted).toLowerCase()) {
    throw new Error(`${what}: got ${got}, want ${wanted}`)
  }
  console.log(`ok ${what}`)
}

// wantHelp checks that a person who sees the error knows what to do.
export async function wantHelp(what, call) {
  try {
    await call()
  } catch (error) {
    if (JSON.stringify([error.message, error.details, error.info, error.error]).includes(`sigilctl unlock ${locked} --bind uid --ttl 15m`)) {
      console.log(`ok ${what}`)
      return
    }
    throw error
  }
  throw new Error(`${what}: no error`)
}

// Over the largest request that sigild reads; both libraries send their id behind it.
export const tooLong = '0x' + '11'.repeat(1200000)

// wantRefusal checks that a request which is refused unread is answered all the same.
export async function wantRefusal(what, call) {
  let timer
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`${what}: no answer`)), 60000) })
  try {
    await Promise.race([call(), late])
  } catch (error) {
    if (JSON.stringify([error.message, error.details, error.info, error.error]).includes('larger than 2097152 bytes')) {
      console.log(`ok ${what}`)
      return
    }
    throw error
  } finally {
    clearTimeout(timer)
  }
  throw new Error(`${what}: no error`)
}
