// Serves demo.html, and is the backend that it needs: it asks the API for a token to register with, which takes the
// application's secret, and the page gets nothing but the token. For a try, and as an example; Node.js 18 or later.
//
//   node demo-server.mjs ORIGIN-OF-THE-API [PORT]     e.g. https://api.example.com 8090
//
// The application's id and secret are in USERS_CLIENT_ID and USERS_CLIENT_SECRET. It prints the page's URL. The API has
// to list the page's origin (UsersCORSOrigin).

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'

const { USERS_CLIENT_ID, USERS_CLIENT_SECRET } = process.env
if (process.argv.length < 3 || !USERS_CLIENT_ID || !USERS_CLIENT_SECRET) {
  console.error('usage: USERS_CLIENT_ID=… USERS_CLIENT_SECRET=… node demo-server.mjs ORIGIN-OF-THE-API [PORT]')
  process.exit(2)
}
const api = new URL(process.argv[2])
const page = readFileSync(new URL('demo.html', import.meta.url), 'utf8')
  .replace('name="users-account" content="/api/users"', `name="users-account" content="${api.origin}/api/users"`)

// The page's own script and style, by their digests, and no others; to the API and here, and nowhere else.
function hash(tag) {
  const [, text] = page.match(new RegExp(`<${tag}\\b[^>]*>(.*?)</${tag}>`, 's'))
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`
}
const policy = [`default-src 'none'`, `script-src ${hash('script')}`, `style-src ${hash('style')}`, 'img-src data:',
  `connect-src 'self' ${api.origin}`, `base-uri 'none'`, `form-action 'none'`, `frame-ancestors 'self'`].join('; ')

// Who may have a token is for the provider's own server to say: here whoever opens the page. A real one looks whom its
// session belongs to, first.
async function token() {
  const id = encodeURIComponent(USERS_CLIENT_ID)
  const secret = encodeURIComponent(USERS_CLIENT_SECRET)
  const answer = await fetch(new URL('/api/oauth/token', api), {
    method: 'POST',
    headers: { Authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'register' }),
  })
  if (!answer.ok) throw new Error(`the API answers ${answer.status} ${await answer.text()}`)
  const { access_token, expires_in } = await answer.json()
  return JSON.stringify({ access_token, expires_in })
}

function send(response, status, type, body) {
  response.writeHead(status, { 'Content-Type': type, 'Content-Length': Buffer.byteLength(body), 'Cache-Control': 'no-store',
    'Content-Security-Policy': policy, 'X-Content-Type-Options': 'nosniff', 'Referrer-Policy': 'no-referrer' })
  response.end(body)
}

const server = createServer(async (request, response) => {
  request.resume()
  const asked = `${request.method} ${request.url}`
  if (asked === 'GET /') return send(response, 200, 'text/html; charset=utf-8', page)
  if (asked !== 'POST /token') return send(response, 404, 'text/plain', 'There is nothing here.\n')
  // What another site's page has a browser send.
  if (request.headers.origin !== `http://${request.headers.host}`) return send(response, 403, 'text/plain', 'Not for you.\n')
  try {
    send(response, 200, 'application/json', await token())
  } catch (error) {
    console.error(error.message, error.cause?.message ?? '')
    send(response, 503, 'text/plain', 'There is no token at the moment.\n')
  }
})

server.listen(Number(process.argv[3] ?? 0), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}/`)
})
