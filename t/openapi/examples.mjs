// Are the examples of the description what a server answers? All that stand in components.examples have to be
// one of these exchanges: what is sent, or what comes back. What no two answers share (ids, secrets, times)
// has to be of the same shape.
//
//   node examples.mjs DESCRIPTION     {"url": …, "id": …, "secret": …, "read": …, "update": …, "register": …,
//                                     "introspector": [id, secret]} on standard input

import { readFileSync } from 'node:fs'
import { parse } from 'yaml'

const { examples } = parse(readFileSync(process.argv[2], 'utf8'), { maxAliasCount: -1 }).components
const given = JSON.parse(readFileSync(0, 'utf8'))
const unused = new Set(Object.keys(examples))
const faults = []

const bearer = (token) => ({ Authorization: `Bearer ${token}` })
const basic = ([name, secret]) => ({ Authorization: `Basic ${btoa(`${name}:${secret}`)}` })
const problem = { Accept: 'application/problem+json' }
const application = basic([given.id, given.secret])

const shapeOf = (value) => typeof value === 'string' ? value.replace(/[\w-]+/g, 'x') : typeof value

// The value with the named members (a path each) as shapes.
function masked(value, members) {
  const copy = structuredClone(value)
  for (const member of members) {
    const names = member.split('.')
    const last = names.pop()
    const parent = names.reduce((at, name) => at?.[name], copy)
    if (parent && last in parent) parent[last] = shapeOf(parent[last])
  }
  return JSON.stringify(copy).replaceAll(given.url, 'https://panel.example')
}

// send: the name of an example, or content that is none. answer: likewise; unlike: members that differ.
async function exchange({ method = 'GET', path = '/api/users', headers = {}, type = 'application/json', send, status = 200,
  answer, unlike = [] }) {
  let body
  if (send !== undefined) {
    const value = examples[send]?.value ?? send
    unused.delete(send)
    body = type === 'application/x-www-form-urlencoded' ? new URLSearchParams(value).toString()
      : typeof value === 'string' ? value : JSON.stringify(value)
    headers = { ...headers, 'Content-Type': type }
  }
  const got = await fetch(given.url + path, { method, headers, body })
  const text = await got.text()
  const what = `${method} ${path} ${answer ?? send}`
  if (got.status !== status) faults.push(`${what}: ${got.status} ${text}`)
  const value = text ? JSON.parse(text) : undefined
  if (answer) {
    unused.delete(answer)
    const [is, should] = [masked(value, unlike), masked(examples[answer].value, unlike)]
    if (is !== should) faults.push(`${what}: is\n  ${is}\nand not\n  ${should}`)
  }
  return value
}

// ---- The account ---------------------------------------------------------------------------------

await exchange({ headers: bearer(given.read), answer: 'john' })
const { user } = await exchange({
  method: 'POST', headers: bearer(given.register), send: 'jane', status: 201, answer: 'registered',
  unlike: ['user.id', 'user.email', 'user.api.username', 'user.api.password'],
})
const owner = basic([user.api.username, user.api.password])
await exchange({ method: 'POST', headers: bearer(given.register), send: 'panel', status: 201 })
const times = ['user.id', 'user.email', 'user.created_at', 'user.updated_at']
await exchange({ method: 'PATCH', headers: owner, send: 'city', answer: 'moved', unlike: times })
await exchange({ method: 'PATCH', headers: owner, send: 'city', type: 'application/merge-patch+json', answer: 'moved', unlike: times })
await exchange({ method: 'PATCH', headers: owner, send: 'label' })

const malformed = { ...bearer(given.read), 'If-Match': 'x' }
await exchange({ headers: malformed, status: 400, answer: 'badHeader' })
await exchange({ headers: { ...malformed, ...problem }, status: 400, answer: 'badHeaderProblem' })
await exchange({ status: 401, answer: 'noCredentials' })
await exchange({ headers: problem, status: 401, answer: 'noCredentialsProblem' })
await exchange({ headers: bearer('unknown'), status: 401, answer: 'wrongToken' })
await exchange({ headers: bearer(given.update), status: 403, answer: 'noScope' })
await exchange({ headers: { ...bearer(given.update), ...problem }, status: 403, answer: 'noScopeProblem' })
await exchange({ headers: { ...bearer(given.read), Accept: 'text/html' }, status: 406, answer: 'notAcceptable' })
const other = { ...bearer(given.read), Accept: 'application/json; api_version=81' }
await exchange({ headers: other, status: 422, answer: 'version' })
await exchange({ headers: { ...other, Accept: `${problem.Accept}; api_version=81` }, status: 422, answer: 'versionProblem' })
const faulty = { method: 'PATCH', headers: owner, send: { user: { fname: ' ', currency: 'XXY' } }, status: 422 }
await exchange({ ...faulty, answer: 'badFields' })
await exchange({ ...faulty, headers: { ...owner, ...problem }, answer: 'badFieldsProblem' })
await exchange({ method: 'PATCH', headers: owner, send: {}, status: 400, answer: 'badShape' })
await exchange({ method: 'PATCH', headers: { ...owner, ...problem }, send: {}, status: 400, answer: 'badShapeProblem' })
await exchange({ method: 'PATCH', headers: owner, send: 'city', type: 'text/plain', status: 415, answer: 'wrongType' })
await exchange({
  method: 'PATCH', headers: { ...owner, 'If-Match': examples.stale && '"0123456789abcdef0123456789abcdef"' }, send: 'city', status: 412,
  answer: 'stale',
})

// ---- Tokens, and how all this is found -----------------------------------------------------------

const form = 'application/x-www-form-urlencoded'
const tokens = { method: 'POST', path: '/api/oauth/token', headers: application }
await exchange({ ...tokens, send: 'grant', type: form, answer: 'token', unlike: ['access_token', 'created_at'] })
await exchange({ ...tokens, send: 'grantInJson' })
await exchange({ ...tokens, send: {}, status: 400, answer: 'noGrant' })
await exchange({ ...tokens, headers: basic([given.id, 'wrong']), send: 'grant', status: 401, answer: 'noClient' })
await exchange({ ...tokens, path: '/api/oauth/revoke', send: 'unknown' })
await exchange({ ...tokens, path: '/api/oauth/introspect', send: 'unknown', status: 403, answer: 'noIntrospect' })
await exchange({
  ...tokens, path: '/api/oauth/introspect', headers: basic(given.introspector), send: { token: given.read },
  answer: 'introspected', unlike: ['client_id', 'iat'],
})
await exchange({ path: '/.well-known/oauth-authorization-server', answer: 'server' })
await exchange({ path: '/.well-known/oauth-protected-resource/api/users', answer: 'resource' })

for (const name of unused) faults.push(`the example ${name} is none of a real exchange`)
console.log(faults.join('\n'))
process.exit(faults.length ? 1 : 0)
