import { readFileSync } from 'node:fs'

/**
 * The version in our package.json, which stands above both the sources and the compiled files.
 * @throws Error when the installation lacks it
 */
export function ownVersion(): string {
  for (const above of ['../package.json', '../../package.json']) {
    try {
      const found = JSON.parse(readFileSync(new URL(above, import.meta.url), 'utf8')) as Record<string, string>
      if (found['name'] === 'orchestrator') return found['version'] ?? ''
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }
  throw new Error('package.json is missing from the installation')
}
