// Is every answer that the tests got as the description of the API says?
//
//   node judge.mjs DESCRIPTION FILE...
//
// An answer of an endpoint must have a status that is described for its method, only header fields that
// are (there, or as x-any-answer of its path), all that are required, and content of a described type that
// fits its schema and has no other member. Prints each kind of fault once, with how often it came and an
// example; exits with 1 where there is any.
//
// A FILE is what Users::Test::Client wrote: records "KIND PORT LENGTH...", a line feed, parts of these
// lengths, a line feed. C, a server's configuration: its text; from then on it is that of the port. A, an
// answer: the head of its request (empty: one of several), its own head, its content. R: the head of a
// request, and all that came on the connection.

import { readFileSync, existsSync } from 'node:fs'
import { basename } from 'node:path'
import { brotliDecompressSync, gunzipSync } from 'node:zlib'
import Ajv2020 from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { parse } from 'yaml'

// What HTTP and httpd need, whatever is served.
const FRAMING = new Set(['date', 'server', 'connection', 'keep-alive', 'content-type', 'content-length',
  'transfer-encoding', 'upgrade'])

// ---- The description -----------------------------------------------------------------------------

const [descriptionFile, ...files] = process.argv.slice(2)
const description = parse(readFileSync(descriptionFile, 'utf8'), { merge: true, maxAliasCount: -1 })

function resolve(node) {
  while (node?.$ref) {
    node = node.$ref.slice(2).split('/').reduce((at, token) => at[token.replace(/~1/g, '/').replace(/~0/g, '~')], description)
  }
  return node
}

// Clients are to ignore members that they do not know; here none may come that is not described.
function close(schema) {
  if (Array.isArray(schema)) return schema.map(close)
  if (schema === null || typeof schema !== 'object') return schema
  const closed = Object.fromEntries(Object.entries(schema).map(([name, value]) =>
    [name, name === 'enum' || name === 'required' ? value : close(value)]))
  if (closed.properties && closed.type === 'object' && !('additionalProperties' in closed)) {
    closed.additionalProperties = false
  }
  return closed
}

const ajv = new Ajv2020({ strict: false, allErrors: false })
addFormats(ajv)
ajv.addSchema({ $id: 'api:', components: { schemas: close(description.components.schemas) } })
const compiled = new Map()

function validatorOf(schema) {
  if (!compiled.has(schema)) {
    const text = JSON.stringify(close(schema)).replaceAll('"#/components', '"api:#/components')
    compiled.set(schema, ajv.compile(JSON.parse(text)))
  }
  return compiled.get(schema)
}

// The path items of each kind of endpoint; those of metadata differ by their path.
const items = new Map(Object.values(description.paths).map((item) => [item['x-endpoint'], item]))

function kindOf(word, path) {
  if (word === 'health') return path.endsWith('/live') ? 'health-live' : 'health-ready'
  if (word !== 'metadata') return word
  return path.startsWith('/.well-known/oauth-protected-resource') ? 'protected-resource' : 'authorization-server'
}

// ---- Faults --------------------------------------------------------------------------------------

const faults = new Map()

function report(what, where) {
  const known = faults.get(what)
  if (known) known.count++
  else faults.set(what, { count: 1, where })
}

// ---- Records -------------------------------------------------------------------------------------

function* recordsOf(file) {
  const bytes = readFileSync(file)
  for (let at = 0; at < bytes.length;) {
    const end = bytes.indexOf('\n', at)
    const [kind, port, ...lengths] = bytes.toString('latin1', at, end).split(' ')
    at = end + 1
    const parts = lengths.map((length) => bytes.subarray(at, at += Number(length)))
    at++
    yield { kind, port, parts }
  }
}

// The endpoints and the header fields that a configuration adds itself.
function serverOf(text) {
  const endpoints = []
  for (const [, path, body] of text.matchAll(/<Location\s+"?([^\s">]+)"?\s*>(.*?)<\/Location>/gs)) {
    for (const [, word] of body.matchAll(/^\s*UsersEndpoint\s+"?([\w-]+)/gm)) {
      endpoints.push({ path, kind: kindOf(word, path) })
    }
  }
  const added = [...text.matchAll(/^\s*Header\s+(?:always\s+|onsuccess\s+)?(?:set|setifempty|add|append|merge|echo)\s+"?([\w-]+)/gim)]
    .map(([, name]) => name.toLowerCase())
  return {
    endpoints,
    added: new Set(added),
    compresses: /DEFLATE|BROTLI/.test(text),
    filters: /^\s*ExtFilterDefine\b/m.test(text),
    documents: /^\s*ErrorDocument\b/m.test(text),
    rewrites: /^\s*RewriteEngine\b/m.test(text),
    refuses: /^\s*(AuthType|Order|RewriteEngine|Satisfy)\b/m.test(text), // by other modules than ours
  }
}

function answerOf(head, content) {
  const [line, ...fields] = head.toString('latin1').split('\r\n')
  const status = /^HTTP\/1\.[01] (\d{3})/.exec(line)?.[1]
  const headers = new Map()
  for (const field of fields) {
    const [, name, value] = /^([^:]+):[ \t]*(.*)$/s.exec(field) ?? [null, field, '']
    const key = name.toLowerCase()
    headers.set(key, [...(headers.get(key) ?? []), value])
  }
  return { status, headers, content }
}

// The content in chunks that begin there, and where it ends. null: it is not all there.
function chunksAt(bytes, at) {
  const parts = []
  for (;;) {
    const end = bytes.indexOf('\r\n', at)
    const length = end < 0 ? NaN : parseInt(bytes.toString('latin1', at, end), 16)
    if (Number.isNaN(length) || end + 4 + length > bytes.length) return null
    if (length === 0) return { content: Buffer.concat(parts), end: end + 4 }
    parts.push(bytes.subarray(end + 2, end + 2 + length))
    at = end + 4 + length
  }
}

// All whole answers of a connection, from its bytes.
function* answersIn(bytes, method) {
  for (let at = 0; at < bytes.length;) {
    const end = bytes.indexOf('\r\n\r\n', at)
    if (end < 0 || bytes.toString('latin1', at, at + 7) !== 'HTTP/1.') return
    const answer = answerOf(bytes.subarray(at, end), Buffer.alloc(0))
    const length = answer.headers.get('content-length')?.[0]
    at = end + 4
    const bare = method === 'HEAD' || answer.status < 200 || answer.status === '204' || answer.status === '304'
    if (!bare && answer.headers.has('transfer-encoding')) {
      const chunks = chunksAt(bytes, at)
      if (!chunks) return
      answer.content = chunks.content
      at = chunks.end
    } else if (!bare) {
      const stop = length === undefined ? bytes.length : at + Number(length)
      if (stop > bytes.length) return
      answer.content = bytes.subarray(at, stop)
      at = stop
    }
    yield answer
  }
}

// ---- Judgement -----------------------------------------------------------------------------------

// As httpd does before it looks for a <Location>. null: it finds none.
function normalPath(target) {
  try {
    const path = target.replace(/^https?:\/\/[^/?#]*/i, '').replace(/[?#].*/s, '')
    if (!path.startsWith('/')) return null
    const parts = []
    for (const part of decodeURIComponent(path).split('/').slice(1)) {
      if (part === '..') parts.pop()
      else if (part !== '.' && part !== '') parts.push(part)
    }
    return '/' + parts.join('/') + (/\/\.{0,2}$/.test(path) && parts.length ? '/' : '')
  } catch {
    return null
  }
}

function contentOf(answer) {
  const encoding = answer.headers.get('content-encoding')?.[0]
  if (encoding === 'gzip') return gunzipSync(answer.content)
  if (encoding === 'br') return brotliDecompressSync(answer.content)
  return answer.content
}

// An answer that httpd, or another module, gave in place of the API has none of the API's header fields.
function isHttpds(method, answer, server) {
  const { statuses, methods } = description['x-httpd']
  const status = Number(answer.status)
  if (server.documents && status >= 400 && !answer.headers.has('cache-control')) return true
  return (server.refuses || statuses.includes(status) || methods[method] === status) &&
    /^text\/html\b/.test(answer.headers.get('content-type')?.[0] ?? '') && !answer.headers.has('cache-control')
}

function valueOf(schema, text) {
  return schema.type === 'integer' && /^\d+$/.test(text) ? Number(text) : text
}

function* judgeHeaders(described, answer, server) {
  for (const [name, values] of answer.headers) {
    const known = described.get(name)
    if (!known) {
      const added = server.added.has(name) || (server.compresses && name === 'content-encoding')
      if (!FRAMING.has(name) && !added) yield `has the header field ${name}, which is not described`
      continue
    }
    for (const value of server.added.has(name) ? [] : values) {
      if (!validatorOf(known.schema)(valueOf(known.schema, value))) yield `has ${name} with another value: ${value}`
    }
  }
  for (const [name, header] of described) {
    if (header.required && !answer.headers.has(name)) yield `lacks the header field ${name}`
  }
}

function* judgeContent(response, answer) {
  const type = answer.headers.get('content-type')?.[0]
  const media = response.content?.[type] ?? response.content?.[type?.replace(/\s*;.*/s, '')]
  if (!response.content) {
    if (answer.content.length) yield 'has content, of which nothing is described'
    return
  }
  if (!media) {
    yield `has content of the type ${type}, which is not described`
    return
  }
  let value
  try {
    value = contentOf(answer).toString('utf8')
    if (/json$/.test(type)) value = JSON.parse(value)
  } catch (error) {
    yield 'has content that is not JSON'
    return
  }
  const validate = validatorOf(media.schema)
  if (!validate(value)) {
    const [{ instancePath, message, params }] = validate.errors
    const where = instancePath.replace(/\/\d+/g, '/N')
    yield `has content that does not fit at "${where}": ${message} ${JSON.stringify(params)}`
  }
}

// Methods are in capitals.
const METHODS = new Map([['GET', 'get'], ['HEAD', 'head'], ['PATCH', 'patch'], ['POST', 'post'], ['OPTIONS', 'options']])

// What is wrong with an answer, judged as that of one method of a path item.
function judge(item, method, below, answer, server) {
  const operation = METHODS.get(method) && item[METHODS.get(method)]
  const others = item['x-other-methods'].responses
  const responses = below ? { 404: others[404], 500: others[500] } : operation ? operation.responses : others
  const response = resolve(responses[answer.status])
  if (!response) return [`has a status that is not described: ${answer.status}`]
  const described = new Map(Object.entries({ ...item['x-any-answer']?.headers, ...response.headers })
    .map(([name, header]) => [name.toLowerCase(), resolve(header)]))
  return [...judgeHeaders(described, answer, server), ...(method === 'HEAD' || server.filters ? [] : judgeContent(response, answer))]
}

// One of several requests may be the one: then an answer has to fit any.
function judgeAny(answer, server) {
  for (const { kind } of server.endpoints) {
    const item = items.get(kind)
    for (const method of item ? ['GET', 'PATCH', 'POST', 'OPTIONS', 'DELETE'] : []) {
      if ([false, true].some((below) => judge(item, method, below, answer, server).length === 0)) return
    }
  }
  return ['fits no operation']
}

let judged = 0

function judgeAnswer(file, head, answer, server) {
  const [method, target] = head.split(' ')
  const path = target === undefined ? null : normalPath(target)
  const where = `${basename(file, '.answers')}: ${head.split('\r\n')[0].slice(0, 100)}`
  if (!answer.status || answer.status < 200 || isHttpds(method, answer, server)) return
  if (target === undefined) {
    // what is of JSON is the API's
    if (/json/.test(answer.headers.get('content-type')?.[0])) {
      judged++
      for (const fault of judgeAny(answer, server) ?? []) report(`an answer ${answer.status} ${fault}`, where)
    }
    return
  }
  const found = server.endpoints.filter((endpoint) =>
    path === endpoint.path || path?.startsWith(endpoint.path + '/'))
  if (found.length === 0) return
  judged++
  const verdicts = found.flatMap((endpoint) => {
    const item = items.get(endpoint.kind)
    const name = `${method} ${endpoint.kind} ${answer.status}`
    if (!item) return [[`UsersEndpoint ${endpoint.kind} is not described`]]
    const below = path !== endpoint.path
    return (server.rewrites ? [below, true] : [below]).map((at) =>
      judge(item, method, at, answer, server).map((fault) => `${name} ${fault}`))
  })
  if (!verdicts.some((verdict) => verdict.length === 0)) verdicts[0].forEach((fault) => report(fault, where))
}

for (const file of files.filter(existsSync)) {
  const servers = new Map()
  for (const { kind, port, parts } of recordsOf(file)) {
    if (kind === 'C') {
      servers.set(port, serverOf(parts[0].toString('utf8')))
      continue
    }
    const server = servers.get(port)
    if (!server) continue // not an httpd of the test's
    const head = parts[0].toString('latin1')
    const answers = kind === 'A' ? [answerOf(parts[1], parts[2])] : answersIn(parts[1], head.split(' ')[0])
    for (const answer of answers) judgeAnswer(file, head, answer, server)
  }
}

for (const [what, { count, where }] of faults) console.log(`${what} (${count}, such as ${where})`)
console.log(`${judged} answers of the API, ${faults.size} kinds of faults`)
process.exit(faults.size ? 1 : 0)
