// The description of the API in JSON, for the build: node convert.mjs doc/openapi.yaml >doc/openapi.json

import { readFileSync } from 'node:fs'
import { parse } from 'yaml'

const description = parse(readFileSync(process.argv[2], 'utf8'), { maxAliasCount: -1 })
process.stdout.write(JSON.stringify(description, null, 1) + '\n')
