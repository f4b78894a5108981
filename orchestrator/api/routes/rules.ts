import { Router } from 'express'
import type { Clock } from '../../../common/clock.ts'
import type { Catalog } from '../../catalog/catalog.ts'
import { writtenMatch } from '../../catalog/rule-match.ts'
import type { Instance } from '../../domain/instance.ts'
import type { Parameter } from '../../domain/parameter.ts'
import { sumOf } from '../../domain/price.ts'
import type { Gift, Rule, Ruleset } from '../../domain/rule.ts'
import type { Template, TemplateHead } from '../../domain/template.ts'
import type { Store } from '../../store/store.ts'
import { accept } from '../problem.ts'
import { parametersToShape } from '../template-shapes.ts'
import { type RuleShape, type RulesShape, type RuleTestShape, ruleTestRequest } from '../wire.ts'

/** `GET /v1/rules`: the rules in force, in order; `POST /v1/rules/test`: what a lease would become, and why. */
export function rulesRoutes(options: { store: Store; catalog: Catalog; clock: Clock }): Router {
  const { store, catalog, clock } = options
  const router = Router()

  router.get('/v1/rules', async (_request, response) => {
    const [ruleset, instances, heads, templates] = await Promise.all([
      store.ruleset(),
      store.instances({ live: true }),
      store.heads(),
      store.templates(),
    ])
    const living = (rule: string) => instances.filter((instance) => instance.rule === rule)
    response.json(rulesToShape(ruleset, living, (gift) => declaredFor(gift, heads, templates)))
  })

  router.post('/v1/rules/test', async (request, response) => {
    const { at, ...guess } = accept(ruleTestRequest, request.body ?? {})
    const told = await catalog.test(guess, at === undefined ? clock.now() : Date.parse(at))
    const { rule, template, refusal, considered, backends, price, spending } = told
    response.json({
      rule,
      template: template && { name: template.name, number: template.number, version: template.version },
      backends: [...backends],
      price: price && { ...price },
      spending: spending.map(({ who, most, spent }) => ({ who, most: { ...most }, spent: { ...spent } })),
      refusal,
      considered: considered.map((one) => ({ ...one })),
    } satisfies RuleTestShape)
  })
  return router
}

/**
 * What a rule's values may mean: the parameters of the version that it gives, and of all later ones, which may call secret
 * what was none when the rule was applied.
 */
function declaredFor(
  { template: name, version }: Gift,
  heads: readonly TemplateHead[],
  templates: readonly Template[],
): readonly Parameter[] {
  const versions = templates.filter((one) => one.name === name)
  const given = version ?? heads.find((one) => one.name === name)?.version
  const first = versions.find((one) => one.version === given || one.number === given)?.number ?? 0
  return versions.filter(({ number }) => number >= first).flatMap(({ parameters }) => parameters)
}

function rulesToShape(
  ruleset: Ruleset | null,
  living: (rule: string) => readonly Instance[],
  declared: (gift: Gift) => readonly Parameter[],
): RulesShape {
  const { revision, origin, rules, quotas }: Ruleset = ruleset ?? {
    revision: 0,
    origin: 'default',
    rules: [],
    quotas: {},
  }
  return {
    revision,
    origin,
    quotas: { total: quotas.total ?? null, perOwner: quotas.perOwner ?? null, spend: quotas.spend ?? null },
    items: rules.map((rule, index) =>
      ruleToShape(rule, index + 1, living(rule.name), rule.give === null ? [] : declared(rule.give)),
    ),
  }
}

function ruleToShape(
  { name, match, give }: Rule,
  position: number,
  instances: readonly Instance[],
  declared: readonly Parameter[],
): RuleShape {
  const gift = give && {
    template: give.template,
    version: give.version ?? null,
    parameters: parametersToShape(give.parameters, declared),
    backend: give.backend ?? null,
    otherwise: [...(give.otherwise ?? [])],
    lifetimeSeconds: seconds(give.lifetime?.mostMs),
    graceSeconds: seconds(give.lifetime?.graceMs),
    most: give.most ?? null,
    spend: give.spend ?? null,
  }
  const spent = [...sumOf(instances.flatMap((one) => one.price ?? []))]
  return { position, name, match: { ...writtenMatch(match) }, give: gift, instances: instances.length, spent }
}

function seconds(ms: number | undefined): number | null {
  return ms === undefined ? null : ms / 1000
}
