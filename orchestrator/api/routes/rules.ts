import { Router } from 'express'
import type { Clock } from '../../../common/clock.ts'
import type { Catalog } from '../../catalog/catalog.ts'
import { writtenMatch } from '../../catalog/rule-match.ts'
import type { Rule, Ruleset } from '../../domain/rule.ts'
import type { Store } from '../../store/store.ts'
import { accept } from '../problem.ts'
import { parametersToShape } from '../template-shapes.ts'
import { type RuleShape, type RulesShape, type RuleTestShape, ruleTestRequest } from '../wire.ts'

/** `GET /v1/rules`: the rules in force, in order; `POST /v1/rules/test`: what a lease would become, and why. */
export function rulesRoutes(options: { store: Store; catalog: Catalog; clock: Clock }): Router {
  const { store, catalog, clock } = options
  const router = Router()

  router.get('/v1/rules', async (_request, response) => {
    const [ruleset, instances] = await Promise.all([store.ruleset(), store.instances({ live: true })])
    const living = (rule: string) => instances.filter((instance) => instance.rule === rule).length
    response.json(rulesToShape(ruleset, living))
  })

  router.post('/v1/rules/test', async (request, response) => {
    const { at, ...guess } = accept(ruleTestRequest, request.body ?? {})
    const told = await catalog.test(guess, at === undefined ? clock.now() : Date.parse(at))
    const { rule, template, refusal, considered } = told
    response.json({
      rule,
      template: template && { name: template.name, number: template.number, version: template.version },
      refusal,
      considered: considered.map((one) => ({ ...one })),
    } satisfies RuleTestShape)
  })
  return router
}

function rulesToShape(ruleset: Ruleset | null, living: (rule: string) => number): RulesShape {
  const { revision, origin, rules, quotas }: Ruleset = ruleset ?? {
    revision: 0,
    origin: 'default',
    rules: [],
    quotas: {},
  }
  return {
    revision,
    origin,
    quotas: { total: quotas.total ?? null, perOwner: quotas.perOwner ?? null },
    items: rules.map((rule, index) => ruleToShape(rule, index + 1, living(rule.name))),
  }
}

function ruleToShape({ name, match, give }: Rule, position: number, instances: number): RuleShape {
  const gift = give && {
    template: give.template,
    version: give.version ?? null,
    parameters: parametersToShape(give.parameters, []),
    backend: give.backend ?? null,
    lifetimeSeconds: seconds(give.lifetime?.mostMs),
    graceSeconds: seconds(give.lifetime?.graceMs),
    most: give.most ?? null,
  }
  return { position, name, match: { ...writtenMatch(match) }, give: gift, instances }
}

function seconds(ms: number | undefined): number | null {
  return ms === undefined ? null : ms / 1000
}
