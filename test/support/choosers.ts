import type { Chooser } from '../../orchestrator/catalog/choose.ts'
import type { Template } from '../../orchestrator/domain/template.ts'
import { template } from './fixtures.ts'

/** A chooser without rules: every lease becomes this template, whatever is stored. */
export function alwaysGives(given: Template = template): Chooser {
  const { backend, lifetime } = given
  const chosen = { rule: null, template: given, parameters: {}, backend, otherwise: [], price: null } as const
  return {
    choose: async () => ({ kind: 'instance', ...chosen, ...lifetime }),
    explain: async () => ({
      ...{ rule: null, template: given, backends: [backend], price: null, spending: [], refusal: null, considered: [] },
    }),
  }
}
