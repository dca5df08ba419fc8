// A client that takes the RFCs at their word: discovery, tokens, introspection, revocation and
// protected requests, as t/api/oauth.t tells it. Prints what it found as JSON.
//
//   node client.mjs RESOURCE CLIENT_ID   with {"secret": …, "name": …, "password": …} on standard input

import * as oauth from 'oauth4webapi'
import { webcrypto } from 'node:crypto'
import { readFileSync } from 'node:fs'

globalThis.crypto ??= webcrypto // Node.js 18

const resource = new URL(process.argv[2])
const client = { client_id: process.argv[3] }
const { secret, name, password } = JSON.parse(readFileSync(0, 'utf8'))
const found = {}

async function call(token, method = 'GET', body) {
  const headers = new Headers(body ? { 'Content-Type': 'application/json' } : {})
  const answer = await oauth.protectedResourceRequest(
    token, method, resource, headers, body ? JSON.stringify(body) : undefined)
  return { status: answer.status, body: await answer.json() }
}

// What a client learns from a 401 alone.
try {
  await call('unknown')
} catch (error) {
  if (!(error instanceof oauth.WWWAuthenticateChallengeError)) throw error
  found.challenges = error.cause.map(({ scheme, parameters }) => [scheme, parameters.error ?? null])
  found.metadata_url = error.cause[0].parameters.resource_metadata
}
found.resource = await oauth.processResourceDiscoveryResponse(
  resource, await oauth.resourceDiscoveryRequest(resource))
const issuer = new URL(found.resource.authorization_servers[0])
const server = await oauth.processDiscoveryResponse(
  issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oauth2' }))
found.issuer = server.issuer

for (const method of [oauth.ClientSecretBasic, oauth.ClientSecretPost]) {
  const authentication = method(secret)
  const { access_token, ...rest } = await oauth.processClientCredentialsResponse(
    server, client, await oauth.clientCredentialsGrantRequest(
      server, client, authentication, new URLSearchParams({ scope: 'register introspect' })))
  const introspect = async (token) => await oauth.processIntrospectionResponse(
    server, client, await oauth.introspectionRequest(server, client, authentication, token))
  const steps = { token: rest, introspection: await introspect(access_token) }
  steps.registered = await call(access_token, 'POST', {
    user: { fname: 'Jane', lname: 'Roe', provider_server: 's', provider_username: 'jane' },
  })
  await oauth.processRevocationResponse(
    await oauth.revocationRequest(server, client, authentication, access_token))
  steps.revoked = await introspect(access_token)
  found[method.name] = steps
}

const owned = await oauth.processGenericTokenEndpointResponse(
  server, client, await oauth.genericTokenEndpointRequest(
    server, client, oauth.ClientSecretBasic(secret), 'password',
    new URLSearchParams({ username: name, password })))
found.read = await call(owned.access_token)

try {
  await oauth.processClientCredentialsResponse(
    server, client, await oauth.clientCredentialsGrantRequest(
      server, client, oauth.ClientSecretPost('wrong'), new URLSearchParams()))
} catch (error) {
  found.wrong = [error.constructor.name, error.error ?? null, error.status]
}

console.log(JSON.stringify(found))
