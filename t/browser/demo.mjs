// doc/demo.html in Chromium, as t/browser/demo.t tells it. Prints a line for each thing that it finds ("ok NAME", or
// "not ok NAME: why"), and "do DEED" where it wants something done, and then waits for a line.
//
//   node demo.mjs CHROMIUM PAGE OTHER-PAGE API [DIRECTORY-FOR-SCREENSHOTS]

import { chromium } from 'playwright-core'
import axe from 'axe-core'
import { createInterface } from 'node:readline'

const [, , executablePath, listed, unlisted, api, pictures] = process.argv
const ACCOUNT = `${api}/api/users`
const PATIENCE = 30_000 // milliseconds

// It ends with whoever started it, and in any case.
const input = createInterface({ input: process.stdin }).on('close', () => process.exit(1))
const lines = input[Symbol.asyncIterator]()
setTimeout(() => process.exit(1), 10 * PATIENCE).unref()

async function deed(name) {
  console.log(`do ${name}`)
  await lines.next()
}

function is(found, wanted, name) {
  const [a, b] = [found, wanted].map((value) => JSON.stringify(value))
  console.log(a === b ? `ok ${name}` : `not ok ${name}: ${a}, not ${b}`)
}

function like(found, pattern, name) {
  console.log(pattern.test(found) ? `ok ${name}` : `not ok ${name}: ${JSON.stringify(found)}`)
}

const browser = await chromium.launch({ executablePath, args: ['--disable-dev-shm-usage',
  ...(process.getuid() === 0 ? ['--no-sandbox'] : [])] })
const context = await browser.newContext({ locale: 'en-GB', viewport: { width: 1120, height: 900 } })
const page = await context.newPage()
page.setDefaultTimeout(PATIENCE)
const complaints = []
page.on('pageerror', (error) => complaints.push(error.message))
page.on('console', (message) => { if (/Content.Security/.test(message.text())) complaints.push(message.text()) })

// ---- What the page shows -------------------------------------------------------------------------

const form = (name) => page.locator(`#${name}`)
const field = (name, label) => form(name).getByLabel(label)
const message = (name) => form(name).getByRole('alert')

async function save() {
  await form('change').getByRole('button', { name: 'Save' }).click()
}

// The text of a form's message, once it has this in it.
async function told(name, text) {
  await message(name).getByText(text).first().waitFor()
  return message(name).innerText()
}

// What the page could read of the last answer.
async function last() {
  return page.locator('#wire li').first().textContent()
}

async function picture(name) {
  if (pictures) await page.screenshot({ path: `${pictures}/${name}.png`, fullPage: true })
}

// In light and dark, wide and narrow: no fault that axe knows, and nothing beside the screen.
async function testLooks(name) {
  for (const [colorScheme, width] of [['light', 1120], ['dark', 1120], ['light', 320], ['dark', 320]]) {
    await page.emulateMedia({ colorScheme })
    await page.setViewportSize({ width, height: 900 })
    const { violations } = await page.evaluate(`${axe.source}; axe.run()`)
    is(violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]), [], `${name}, ${colorScheme}, ${width}: accessible`)
    is(await page.evaluate('document.documentElement.scrollWidth'), width, `${name}, ${colorScheme}, ${width}: fits`)
    await picture(`${name}-${colorScheme}-${width}`)
  }
  await page.emulateMedia({ colorScheme: 'light' })
  await page.setViewportSize({ width: 1120, height: 900 })
}

// What a page gets for a request that it makes by itself: [status, some header fields], or the error's name.
function ask(url, options = {}) {
  return page.evaluate(async ([url, options]) => {
    try {
      const answer = await fetch(url, options)
      return [answer.status, answer.headers.get('ETag'), answer.headers.get('Content-Type')]
    } catch (error) {
      return error.name
    }
  }, [url, options])
}

// ---- The way of a user, by keyboard at first ------------------------------------------------------

await page.goto(listed)
like(await page.title(), /account/, 'the page is there')
await testLooks('start')

await page.keyboard.press('Tab')
is(await page.evaluate('document.activeElement.name'), 'fname', 'the first thing to reach is the first field')
await page.keyboard.press('Enter')
await message('register').getByText('another look').waitFor()
is(await page.evaluate('document.activeElement.name'), 'fname', '422: the first field that is wrong has the focus')
like(await page.locator('#register-fname-fault').innerText(), /^First name can't be blank\.$/, '... and tells why')
like(await field('register', 'First name').getAttribute('aria-describedby'), /register-fname-fault/, '... to a screen reader, too')
is(await field('register', 'First name').getAttribute('aria-invalid'), 'true', '... and that it is wrong')
is(await form('register').locator('[aria-invalid]').evaluateAll((all) => all.map(({ name }) => name)),
  ['fname', 'lname', 'provider_username'], '... and so do all others that are wrong')
like(await last(), /^POST \/api\/users → 422/, '... which the page has read')
await testLooks('faults')

const typed = ['Jane', 'Roe', 'jane@example.com', null, 'Roe & Co', 'Delft', 'NL', 'EUR', null, 'jane']
for (const text of typed) {
  if (text) await page.keyboard.type(text)
  await page.keyboard.press('Tab')
}
is(await page.evaluate('document.activeElement.textContent'), 'Create account', 'the button comes behind the last field')
await page.keyboard.press('Enter')
await page.getByRole('heading', { name: 'Jane Roe' }).waitFor()
is(await page.evaluate('document.activeElement.id'), 'name', '201: the account has the focus')
like(await last(), /^GET \/api\/users → 200ETag: "[0-9a-f]+"/, '200: the page has read the tag')
like(await page.locator('#facts').innerText(), /jane@example\.com/, '... and the account')
const username = await page.locator('#secret-username').innerText()
const password = await page.locator('#secret-password').innerText()
await page.locator('#wire summary').click()
await testLooks('account')

await field('change', 'City').fill('Utrecht')
await save()
await told('change', 'Saved')
like(await last(), /^PATCH \/api\/users → 200ETag: /, '200: a change')
await deed('see Utrecht')

await deed('change it elsewhere')
await field('change', 'City').fill('Gouda')
await save()
like(await told('change', 'changed meanwhile'), /The account is in another state\./, '412: it was changed elsewhere')
like(await last(), /^PATCH \/api\/users → 412/, '... which the page has read')
await picture('412')
await page.getByRole('button', { name: 'Load what it is now' }).click()
await told('change', 'as it is now')
is(await field('change', 'Phone').inputValue(), '+31 15 1234', '... and it shows how')
is(await field('change', 'City').inputValue(), 'Gouda', '... but keeps what was typed')
await save()
await told('change', 'Saved')
await deed('see Gouda')

await field('change', 'E-mail address').fill('john@example.com')
await field('change', 'Country').fill('XX')
await save()
await told('change', 'need another look')
is(await Promise.all(['email', 'country'].map((name) => page.locator(`#change-${name}-fault`).innerText())),
  ['E-mail address has already been taken.', 'Country is not a known country.'], '422: the faults are beside their fields')
await field('change', 'E-mail address').fill('jane@example.com')
await field('change', 'Country').fill('NL')

await deed('suspend')
await field('change', 'City').fill('Leiden')
await save()
like(await told('change', 'not permitted'), /The account is suspended\./, '403: a suspended account')
like(await last(), /^PATCH \/api\/users → 403/, '... which the page has read')
await deed('let in again')

await deed('stop the database')
await save()
like(await told('change', 'not available'), /Try again in \d+ seconds?\./, '503: no database')
like(await last(), /^PATCH \/api\/users → 503Retry-After: \d+/, '... and when to come again')
await picture('503')
await deed('start the database')
await save()
await told('change', 'Saved')
await deed('see Leiden')

await page.getByRole('button', { name: 'Close' }).click()
is(await page.locator('body').innerText().then((text) => text.includes(password)), false, 'once it is closed, no secret is left')
await field('open', 'API username').fill(username)
for (const [times, title, read] of [[1, 'not valid', /→ 401WWW-Authenticate: Bearer realm="users".*Basic realm="users"/],
  [1, 'Too many', /→ 429Retry-After: \d+/]]) {
  await field('open', 'API password').fill('wrong')
  await form('open').getByRole('button').click()
  const text = await told('open', title)
  like(await last(), read, `${title}: the page has read it`)
  if (/Too many/.test(title)) like(text, /Try again in \d+ (?:minutes|seconds)\./, '... and says when to come again')
}
await picture('429')
await field('open', 'API password').fill(password)
await field('open', 'API password').press('Enter')
await page.getByRole('heading', { name: 'Jane Roe' }).waitFor()
is(await page.evaluate('document.cookie + localStorage.length + sessionStorage.length'), '00', 'the browser has kept nothing')

// ---- What a page may do by itself ----------------------------------------------------------------

const Authorization = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
const [status, tag] = await ask(ACCOUNT, { headers: { Authorization } })
is(status, 200, 'a listed page reads the account')
is((await ask(ACCOUNT, { headers: { Authorization, 'If-None-Match': tag } })).slice(0, 2), [304, tag], '... and that it has not changed')
is((await ask(ACCOUNT, { method: 'DELETE' })), 'TypeError', '... but can send no method that there is not')
is((await ask(ACCOUNT, { headers: { Authorization }, credentials: 'include' })), 'TypeError', '... nor what the browser keeps')
is((await ask(`${api}/.well-known/oauth-authorization-server`))[0], 200, '... and reads the metadata')
is((await ask(`${api}/api/oauth/token`, { method: 'POST' })), 'TypeError', '... but not what takes a secret')

await deed('count')
await page.goto(unlisted)
await field('register', 'First name').waitFor()
for (const [url, options] of [[ACCOUNT], [ACCOUNT, { headers: { Authorization } }],
  [ACCOUNT, { method: 'PATCH', headers: { Authorization, 'Content-Type': 'application/json' }, body: '{"user": {"city": "Nowhere"}}' }],
  [`${api}/.well-known/oauth-authorization-server`]]) {
  is(await ask(url, options), 'TypeError', `a page that is not listed reads nothing: ${options?.method ?? 'GET'}`)
}
for (const [name, text] of Object.entries({ 'First name': 'No', 'Last name': 'Body', 'Username there': 'nobody' })) {
  await field('register', name).fill(text)
}
await form('register').getByRole('button').click()
like(await told('register', 'no answer'), /UsersCORSOrigin does not list http:/, '... and registers nobody')
await picture('unlisted')
await deed('compare')

is(complaints, [], 'nothing went wrong in the page')
await browser.close()
process.exit()
