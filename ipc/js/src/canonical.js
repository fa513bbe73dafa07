// The canonical form of RFC 8785, and what may be put into it.

/** canonical gives the text of a JSON value by RFC 8785. */
export function canonical(value) {
  if (Array.isArray(value)) {
    return '[' + value.map(canonical).join(',') + ']'
  }
  if (value !== null && typeof value === 'object') {
    const members = Object.keys(value).sort() // by UTF-16 code units, as the RFC asks
    return '{' + members.map((name) => JSON.stringify(name) + ':' + canonical(value[name])).join(',') + '}'
  }
  return JSON.stringify(value)
}

/**
 * plainJSON gives the value that a parser reads from JSON.stringify(value). It
 * throws for what two parsers may read as two values: numbers that are not whole
 * or beyond 2^53-1, and strings that are not Unicode.
 */
export function plainJSON(value) {
  const text = JSON.stringify(value)
  if (text === undefined) throw new TypeError('the parameters are not a JSON value')
  return JSON.parse(text, (name, member) => {
    if (typeof member === 'number' && !Number.isSafeInteger(member)) {
      throw new RangeError(`${name}: numbers must be whole and at most 9007199254740991: write others as strings`)
    }
    if (isBroken(name) || (typeof member === 'string' && isBroken(member))) {
      throw new RangeError(`${name}: the string is not valid Unicode`)
    }
    return member
  })
}

const isBroken = (text) => /\p{Surrogate}/u.test(text)
