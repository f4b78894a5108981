import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { wording } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import { loadIdentity } from '../identity.ts'
import type { Settings } from '../settings.ts'
import { type Builder, createBuilder } from './builder.ts'
import { imageEngine } from './engine.ts'
import { orchestratorFiles } from './orchestrator.ts'
import { loadImageRecord } from './record.ts'
import { createImageStock, type ImageStock, type ImageStockParts } from './stock.ts'

/** Puts together what this host does with images. What a crash left half fetched goes away. */
export async function startImages(parts: {
  readonly settings: Settings
  readonly log: Log
  readonly notice: ImageStockParts['notice']
  readonly now: () => number
}): Promise<{ stock: ImageStock; builder: Builder }> {
  const { settings, log, notice, now } = parts
  const state = settings['state.directory']
  const directory = join(state, 'archives')
  await rm(directory, { recursive: true, force: true })
  const record = await loadImageRecord(join(state, 'images.json'), (error) => {
    log.warn('images.record-lost', 'the list of images that came by us cannot be read; none of them is taken away', {
      error: wording(error),
    })
  })
  const engine = imageEngine(settings['docker.socket'])
  const orchestrator = orchestratorFiles(settings['server.url'], () => loadIdentity(state))
  const common = { engine, orchestrator, record, directory, log, now }
  const credentialsFile = settings['images.credentials-file']
  return {
    stock: createImageStock({ ...common, credentialsFile, keepMs: settings['images.keep-seconds'] * 1000, notice }),
    builder: createBuilder({
      ...common,
      credentialsFile,
      limits: {
        network: settings['images.build-network'],
        memoryBytes: settings['images.build-memory-bytes'],
        cpus: settings['images.build-cpus'],
      },
    }),
  }
}
