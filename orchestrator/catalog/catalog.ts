import type { Template } from '../domain/template.ts'
import { type Applied, type ApplyOptions, applyFiles, type CatalogContext } from './apply.ts'
import type { Chooser, Explanation, LeaseGuess } from './choose.ts'
import { removeTemplate, type Uses, usesOf } from './removal.ts'
import { diffVersions, rollOutTemplate, versionAmong, versionsIn } from './rollout.ts'

export type { Applied } from './apply.ts'

/** What leases become, as people change it. Every call rejects with an OrchestratorError that says what is wrong. */
export interface Catalog {
  apply(files: ReadonlyMap<string, Uint8Array>, options: ApplyOptions): Promise<Applied>
  /** A version by number or hash; without one, that which is rolled out, or else the newest. */
  find(name: string, version?: string): Promise<Template>
  /** All versions, oldest first. */
  versions(name: string): Promise<readonly Template[]>
  /** Who uses that version. */
  uses(template: Template): Promise<Uses>
  rollOut(name: string, to: string | number): Promise<Template>
  remove(name: string): Promise<void>
  diff(
    name: string,
    given: { readonly from?: string | undefined; readonly to?: string | undefined },
  ): ReturnType<typeof diffVersions>
  /** What a lease would become, and why. @param now epoch ms */
  test(guess: LeaseGuess, now: number): Promise<Explanation>
}

export function createCatalog(context: CatalogContext, chooser: Pick<Chooser, 'explain'>): Catalog {
  const { store } = context
  return {
    apply: (files, options) => applyFiles(context, files, options),
    find: (name, version) =>
      store.transaction(async (tx) => {
        const versions = await versionsIn(tx, name)
        const newest = versions.at(-1)?.version ?? ''
        return versionAmong(versions, name, version ?? (await tx.head(name))?.version ?? newest)
      }),
    versions: (name) => store.transaction((tx) => versionsIn(tx, name)),
    uses: (template) => store.transaction((tx) => usesOf(tx, template)),
    rollOut: (name, to) => rollOutTemplate(context, name, to),
    remove: (name) => removeTemplate(context, name, 'api'),
    test: (guess, now) => store.transaction((tx) => chooser.explain(tx, guess, now)),
    diff: (name, given) => diffVersions(store, name, given),
  }
}
