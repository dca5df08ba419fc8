// A client that is typed by the description alone: from an application's secret to a registered account,
// and to a change of it. t/api/openapi.t compiles it, against the types that openapi-typescript makes, and
// runs it against a server.

import createClient from 'openapi-fetch'
import type { components, paths } from './api.js'

type Account = components['schemas']['Account']['user']
type Code = components['schemas']['Code']

const basic = (name: string, secret: string) => `Basic ${btoa(`${name}:${secret}`)}`

export async function walk(baseUrl: string, id: string, secret: string) {
  const api = createClient<paths>({ baseUrl, headers: { Accept: 'application/problem+json' } })

  const token = await api.POST('/api/oauth/token', {
    headers: { Authorization: basic(encodeURIComponent(id), encodeURIComponent(secret)) },
    body: { grant_type: 'client_credentials', scope: 'register' },
  })
  if (token.error) throw new Error(`no token: ${token.response.status} ${JSON.stringify(token.error)}`)

  const registered = await api.POST('/api/users', {
    headers: { Authorization: `Bearer ${token.data.access_token}` },
    params: { header: { 'Idempotency-Key': 'typed-client' } },
    body: { user: { fname: 'Jane', lname: 'Roe', provider_server: 'server.example', provider_username: 'jane' } },
  })
  if (registered.error) throw new Error(`no account: ${registered.response.status}`)
  const { username, password } = registered.data.user.api
  const headers = { Authorization: basic(username, password) }

  const read = await api.GET('/api/users', { headers })
  if (read.error) throw new Error(`not read: ${read.response.status}`)
  const before: Account = read.data.user
  const tag = read.response.headers.get('ETag') ?? ''

  const changed = await api.PATCH('/api/users', {
    headers,
    params: { header: { 'If-Match': tag } },
    body: { user: { city: 'Utrecht', phone: null } },
  })
  if (changed.error || !changed.data || !('user' in changed.data)) throw new Error(`not changed: ${changed.response.status}`)
  const after = changed.data.user as Account

  const codes: Code[] = []
  const stale = await api.PATCH('/api/users', {
    headers,
    params: { header: { 'If-Match': tag } },
    body: { user: { city: 'Breda' } },
  })
  const faulty = await api.PATCH('/api/users', { headers, body: { user: { fname: '', country: 'ZZ' } } })
  for (const { error } of [stale, faulty]) {
    // the content type says which of the two shapes it is
    if (error && 'type' in error) codes.push(...error.errors.map((fault) => fault.code))
  }

  // @ts-expect-error: no account has such a member
  after.nickname
  // @ts-expect-error: nor does a change
  const wrong: components['schemas']['Change'] = { user: { city: 4711 } }
  void wrong

  return { scope: token.data.scope, id: registered.data.user.id, before: before.city, after: after.city, codes }
}
