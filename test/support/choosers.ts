import type { Chooser } from '../../orchestrator/catalog/choose.ts'
import type { Template } from '../../orchestrator/domain/template.ts'
import { template } from './fixtures.ts'

/** A chooser without rules: every lease becomes this template, whatever is stored. */
export function alwaysGives(given: Template = template): Chooser {
  const { backend, lifetime } = given
  return {
    choose: async () => ({ kind: 'instance', rule: null, template: given, parameters: {}, backend, ...lifetime }),
    explain: async () => ({ rule: null, template: given, refusal: null, considered: [] }),
  }
}
