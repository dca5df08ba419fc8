// The description of the API as a page for people, that needs nothing but itself:
//
//   node page.mjs doc/openapi.yaml >doc/api.html

import { readFileSync } from 'node:fs'
import { parse } from 'yaml'

const api = parse(readFileSync(process.argv[2], 'utf8'), { maxAliasCount: -1 })
const METHODS = ['get', 'head', 'patch', 'post', 'options']

const escape = (text) => String(text).replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c])

// What the descriptions use of Markdown: paragraphs, bold, code.
const inline = (text) => escape(text.trim()).replace(/`([^`]+)`/g, '<code>$1</code>').replace(/\*\*([^*]+)\*\*/g, '<strong>$1</strong>')
const prose = (text) => (text ?? '').trim().split(/\n\s*\n/).filter(Boolean).map((part) => `<p>${inline(part)}</p>`).join('\n')

const nameOf = (node) => node?.$ref?.split('/').pop()
const resolve = (node) => node?.$ref
  ? resolve(node.$ref.slice(2).split('/').reduce((at, token) => at[token], api))
  : node

// ---- Schemas -------------------------------------------------------------------------------------

function typeOf(schema) {
  if (schema.$ref) return `<a href="#schema-${nameOf(schema)}">${nameOf(schema)}</a>`
  const choices = schema.anyOf ?? schema.oneOf
  if (choices) return choices.map(typeOf).join(' or ')
  if (schema.const !== undefined) return `<code>${escape(JSON.stringify(schema.const))}</code>`
  if (schema.type === 'array') return `array of ${typeOf(schema.items ?? {})}`
  if (schema.enum) return 'one of ' + schema.enum.map((value) => `<code>${escape(value)}</code>`).join(', ')
  return [schema.type ?? 'any'].flat().join(' or ')
}

function limitsOf(schema) {
  const limits = []
  if (schema.maxLength) limits.push(`at most ${schema.maxLength} characters`)
  if (schema.minimum !== undefined) limits.push(`${schema.minimum} or more`)
  if (schema.format) limits.push(schema.format)
  if (schema.default !== undefined) limits.push(`default ${schema.default}`)
  if (schema.pattern) limits.push(`<code>${escape(schema.pattern)}</code>`)
  return limits.join(', ')
}

// Rows of a table; members of objects that have no name of their own follow theirs.
function rows(schema, path = '') {
  return Object.entries(schema.properties ?? {}).flatMap(([name, member]) => {
    const required = schema.required?.includes(name)
    const inner = member.type === 'array' ? member.items : member
    const limits = member.$ref ? '' : limitsOf(member)
    const about = member.description ? inline(member.description) : ''
    return [
      `<tr><th scope="row"><code>${path}${name}</code>${required ? ' <span class="required">required</span>' : ''}</th>` +
      `<td>${typeOf(member)}</td><td>${[about, limits].filter(Boolean).join('<br>')}</td></tr>`,
      ...(inner?.properties ? rows(inner, `${path}${name}${inner === member ? '' : '[]'}.`) : []),
    ]
  })
}

function table(head, body) {
  if (!body.length) return ''
  return `<div class="wide"><table><thead><tr>${head.map((name) => `<th scope="col">${name}</th>`).join('')}</tr></thead>` +
    `<tbody>\n${body.join('\n')}\n</tbody></table></div>`
}

function schemaSection([name, schema]) {
  const members = rows(schema)
  return `<section id="schema-${name}"><h3>${name}</h3>${prose(schema.description)}` +
    (members.length ? table(['member', 'type', 'about'], members)
      : `<p>${[typeOf(schema), limitsOf(schema)].filter(Boolean).join(', ')}</p>`) + '</section>'
}

// ---- Operations ----------------------------------------------------------------------------------

function exampleOf(name, example, type, open) {
  const { summary, value } = resolve(example)
  const text = type.includes('urlencoded') ? new URLSearchParams(value).toString() : JSON.stringify(value, null, 2)
  return `<details${open ? ' open' : ''}><summary>Example: ${escape(summary ?? name)} <span class="type">${type}</span></summary>` +
    `<pre tabindex="0"><code>${escape(text)}</code></pre></details>`
}

const examplesOf = (content, open) => Object.entries(content ?? {}).flatMap(([type, media]) =>
  Object.entries(media.examples ?? {}).map(([name, example]) => exampleOf(name, example, type, open))).join('\n')

const typesOf = (content) => Object.entries(content ?? {}).map(([type, { schema }]) => `<code>${type}</code>: ${typeOf(schema)}`).join('<br>')

function securityOf(operation) {
  if (operation.security.length === 0) return 'none'
  return operation.security.map((scheme) => Object.entries(scheme).map(([name, scopes]) =>
    `<a href="#scheme-${name}">${escape(api.components.securitySchemes[name]['x-name'])}</a>` + scopes.map((scope) => ` with <code>${scope}</code>`).join('')).join(' and ') ||
    'or in the body').join(', or ').replace(', or or', ', or')
}

function responseRow([status, node]) {
  const response = resolve(node)
  const headers = Object.entries(response.headers ?? {}).map(([name, header]) =>
    `<dt><code>${name}</code></dt><dd>${inline(resolve(header).description)}</dd>`).join('')
  return `<tr class="s${status[0]}"><th scope="row">${status}</th><td>${prose(response.description)}${typesOf(response.content)}` +
    `<details><summary>Header fields</summary><dl>${headers}</dl></details>${examplesOf(response.content, status[0] === '2')}</td></tr>`
}

function operationSection(path, method, operation) {
  const parameters = (operation.parameters ?? []).map(resolve).map((parameter) =>
    `<tr><th scope="row"><code>${parameter.name}</code></th><td>${inline(parameter.description)}<br>` +
    `such as <code>${escape(parameter.example)}</code></td></tr>`)
  const body = operation.requestBody
  if (method === 'head') {
    return `<section id="${operation.operationId}" class="operation">
<h3><span class="method ${method}">${method.toUpperCase()}</span> <code>${path}</code></h3>
${prose(operation.description)}
</section>`
  }
  return `<section id="${operation.operationId}" class="operation">
<h3><span class="method ${method}">${method.toUpperCase()}</span> <code>${path}</code></h3>
<p class="lead">${escape(operation.summary)}</p>
${prose(operation.description)}
<p><strong>Credentials:</strong> ${securityOf(operation)}</p>
${parameters.length ? `<h4>Header fields of the request</h4>${table(['name', 'about'], parameters)}` : ''}
${body ? `<h4>Content of the request</h4><p>${typesOf(body.content)}</p>${examplesOf(body.content, true)}` : ''}
<h4>Answers</h4>
${table(['status', 'about'], Object.entries(operation.responses).map(responseRow))}
</section>`
}

const operations = Object.entries(api.paths).flatMap(([path, item]) =>
  METHODS.filter((method) => item[method]).map((method) => ({ path, method, operation: item[method] })))

const ofTag = (name) => operations.filter(({ operation }) => operation.tags.includes(name))

const others = Object.values(api.paths)[0]['x-other-methods']

const schemes = Object.entries(api.components.securitySchemes).map(([name, scheme]) => {
  const scopes = Object.entries(scheme.flows?.clientCredentials?.scopes ?? {}).map(([scope, about]) =>
    `<tr><th scope="row"><code>${scope}</code></th><td>${inline(about)}</td></tr>`)
  return `<section id="scheme-${name}"><h3>${escape(scheme['x-name'].replace(/^./, (c) => c.toUpperCase()))}</h3>${prose(scheme.description)}${table(['scope', 'allows to'], scopes)}</section>`
}).join('\n')

const nav = [
  ...api.tags.map(({ name }) => `<li>${name}<ul>` + ofTag(name).filter(({ method }) => !['head', 'options'].includes(method)).map(({ path, method, operation }) =>
    `<li><a href="#${operation.operationId}" title="${method.toUpperCase()} ${path}">${escape(operation.summary)}</a></li>`).join('') + '</ul></li>'),
  '<li><a href="#credentials">Credentials</a></li>', '<li><a href="#others">Other methods and paths</a></li>',
  '<li><a href="#schemas">Schemas</a></li>',
].join('\n')

// ---- The page ------------------------------------------------------------------------------------

const style = `
:root { color-scheme: light dark; --ink: #1d2530; --soft: #566173; --paper: #fff; --panel: #f4f6f9; --line: #d9dfe7; --link: #0b57b0;
  --get: #0a6640; --post: #0b57b0; --patch: #8a4b00; --options: #566173; --bad: #a51d2d }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9f0; --soft: #a3adbb; --paper: #14181f; --panel: #1c222b; --line: #343d4a;
  --link: #8bbcff; --get: #0f7a4d; --post: #1f68c4; --patch: #9a5a08; --options: #566173; --bad: #ff9aa5 } }
* { box-sizing: border-box }
body { margin: 0; color: var(--ink); background: var(--paper); font: 16px/1.55 system-ui, "Segoe UI", "Noto Sans", sans-serif }
a { color: var(--link) } a:focus-visible, summary:focus-visible, pre:focus-visible { outline: 3px solid var(--link); outline-offset: 2px }
.skip { position: absolute; left: -999em } .skip:focus { left: 1em; top: 1em; background: var(--paper); padding: .5em; z-index: 1 }
nav { position: fixed; inset: 0 auto 0 0; width: 17rem; overflow: auto; padding: 1.5rem; background: var(--panel); border-right: 1px solid var(--line) }
nav ul { list-style: none; margin: 0; padding: 0 } nav > ul > li { margin-bottom: 1rem; font-weight: 600 }
nav li li { font-weight: 400; margin: .3rem 0 } nav a { text-decoration: none } nav a:hover { text-decoration: underline }
main { margin-left: 17rem; padding: 2rem 2.5rem 6rem; max-width: 66rem }
h1 { margin: 0; font-size: 2rem } h1 + p { color: var(--soft); margin-top: .2rem } h2 { margin-top: 3.5rem; padding-bottom: .3rem; border-bottom: 2px solid var(--line) }
h3 { margin-top: 2.5rem; font-size: 1.15rem } h4 { margin: 1.5rem 0 .5rem } .lead { font-size: 1.15rem; margin: .3rem 0 }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .88em } code { background: var(--panel); border-radius: 4px; padding: .1em .3em; overflow-wrap: anywhere }
h3 code { background: none; font-size: 1em } pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: 1rem; overflow: auto; margin: .5rem 0 }
pre code { background: none; padding: 0 }
.method { display: inline-block; min-width: 4.6em; text-align: center; padding: .1em .5em; border-radius: 5px; color: #fff; font-size: .8em; letter-spacing: .04em }
.get { background: var(--get) } .post { background: var(--post) } .patch { background: var(--patch) } .options, .head { background: var(--options) }
.operation { border: 1px solid var(--line); border-radius: 10px; padding: 0 1.5rem 1rem; margin-top: 1.5rem } .operation h3 { margin-top: 1.2rem }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100% } th, td { text-align: left; vertical-align: top; padding: .5rem .8rem .5rem 0; border-bottom: 1px solid var(--line) }
thead th { color: var(--soft); font-weight: 600; font-size: .85rem } tbody th { font-weight: 600; white-space: nowrap } td p { margin: 0 0 .3rem }
.s4 th, .s5 th { color: var(--bad) } .required { color: var(--bad); font-weight: 400; font-size: .8rem } .type { color: var(--soft) }
summary { cursor: pointer; color: var(--link); padding: .15rem 0 } dl { margin: .3rem 0 .6rem } dt { margin-top: .3rem } dd { margin: 0 0 0 1.2rem }
@media (max-width: 60rem) { nav { position: static; width: auto; border: 0; border-bottom: 1px solid var(--line) } main { margin: 0; padding: 1.5rem 1rem 4rem } .operation { padding: 0 1rem 1rem } tbody th { white-space: normal } }
@media print { nav { display: none } main { margin: 0; max-width: none } }
`.trim()

process.stdout.write(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(api.info.title)} ${api.info.version}: ${escape(api.info.summary)}</title>
<style>
${style}
</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<nav aria-label="Contents">
<ul>
${nav}
</ul>
</nav>
<main id="content">
<h1>${escape(api.info.title)} <small>${api.info.version}</small></h1>
<p>${escape(api.info.summary)}</p>
${prose(api.info.description)}
${api.tags.map(({ name, description }) => `<h2>${name}</h2>${prose(description)}
${ofTag(name).map(({ path, method, operation }) => operationSection(path, method, operation)).join('\n')}`).join('\n')}
<h2 id="credentials">Credentials</h2>
${schemes}
<h2 id="others">Other methods and paths</h2>
${prose(others.description)}
${table(['status', 'about'], Object.entries(others.responses).map(responseRow))}
<p>${inline(api['x-httpd'].description)} They are ${api['x-httpd'].statuses.join(', ')}, and 405 for <code>TRACE</code>.</p>
<h2 id="schemas">Schemas</h2>
${Object.entries(api.components.schemas).map(schemaSection).join('\n')}
</main>
</body>
</html>
`)
