import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv, type ValidateFunction } from 'ajv'
import { run } from '../../lab/command.ts'
import { CACHE_DIRECTORY } from '../../lab/places.ts'

const WITHIN = 'usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json'

/**
 * The schema by which Debian's cloud-init checks a cloud-config (`cloud-init schema`), taken from its package: installed, it
 * would take the machine for a new one at the next boot. Kept in the lab's cache.
 */
export async function cloudInitSchema(): Promise<ValidateFunction> {
  const file = join(CACHE_DIRECTORY, 'cloud-init', 'schema.json')
  if (!existsSync(file)) {
    mkdirSync(join(CACHE_DIRECTORY, 'cloud-init'), { recursive: true })
    const folder = mkdtempSync(join(CACHE_DIRECTORY, 'cloud-init', 'package-'))
    try {
      const fetch =
        'cd "$1" && apt-get -q -o APT::Sandbox::User=root download cloud-init && dpkg-deb -x cloud-init_*.deb .'
      await run('sh', ['-ec', fetch, 'sh', folder], { timeoutMs: 120_000 })
      renameSync(join(folder, WITHIN), file)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }
  // The library does not know draft 04 by its address; what is used of it means the same in draft 07.
  const { $schema: _dialect, ...schema } = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>
  return new Ajv({ strict: false, allErrors: true, validateFormats: false }).compile(schema)
}
