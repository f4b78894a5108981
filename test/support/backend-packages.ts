import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** A package as npm would have installed it, in a folder of its own. */
export interface InstalledPackage extends Disposable {
  /** What the setting `packages.directory` names. */
  readonly directory: string
  readonly name: string
  /** The absolute path of its module. */
  readonly module: string
}

const FIXTURE = new URL('../fixtures/backend-package/', import.meta.url).pathname

/** @param change makes another text of the module's */
export function installPackage(change: (text: string) => string = (text) => text): InstalledPackage {
  const directory = mkdtempSync('/tmp/orchestrator-packages-')
  const { name } = JSON.parse(readFileSync(join(FIXTURE, 'package.json'), 'utf8')) as { name: string }
  const folder = join(directory, 'node_modules', name)
  mkdirSync(folder, { recursive: true })
  cpSync(FIXTURE, folder, { recursive: true })
  const module = join(folder, 'index.js')
  writeFileSync(module, change(readFileSync(module, 'utf8')))
  return { directory, name, module, [Symbol.dispose]: () => rmSync(directory, { recursive: true }) }
}
