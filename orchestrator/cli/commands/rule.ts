import { type Command, Option } from 'commander'
import { stringify } from 'yaml'
import { plain } from '../../../common/plain.ts'
import { aligned } from '../../../common/table.ts'
import type { RuleTestRequest, RuleTestShape } from '../../api/wire.ts'
import { Usage } from '../exit.ts'
import { print } from '../output.ts'
import { priceText, spentOf } from '../prices.ts'
import { dataFormat, wholeNumber, withSession } from '../session.ts'

type TestFlags = Omit<RuleTestRequest, 'tags' | 'userClasses'> & { tag?: string[]; userClass?: string[] }

export function addRule(program: Command): void {
  const rule = program
    .command('rule')
    .summary('try the rules')
    .description(
      'Tries the rules that decide what a lease becomes. `orctl get rules` lists them, `orctl apply` changes them.',
    )
    .addHelpText('after', '\nExample:\n  orctl rule test --mac 02:00:5e:00:00:01 --tag lab')
  const many = (value: string, before: string[] = []) => [...before, value]
  rule
    .command('test')
    .summary('tell which rule a lease would meet, and why the earlier ones do not match')
    .description(
      'Tells what a lease with these facts would become: the first rule that matches, and for each rule before it the first thing that does not match. Nothing is changed. What is not given is unknown, and matches no pattern.',
    )
    .option('--mac <mac>', 'MAC of the device')
    .option('--duid <hex>', 'its DUID, hex with colons')
    .addOption(new Option('--iaid <number>', 'its IAID').argParser(wholeNumber('--iaid', 0, 0xffff_ffff)))
    .option('--tag <tag>', 'a tag of the lease server; may be repeated', many)
    .option('--address <ipv6>', 'address of the lease')
    .option('--relay <ipv6>', 'address of the relay')
    .option('--interface <name>', 'interface on which the request came in')
    .option('--source <host>', 'host of the lease server')
    .option('--hostname <name>', 'what the device calls itself')
    .option('--mud-url <url>', 'its MUD URL')
    .option('--vendor-class <text>', 'its vendor class')
    .option('--user-class <text>', 'a user class; may be repeated', many)
    .option('--at <time>', 'when, such as 2026-12-24T18:00:00Z (default: now)')
    .addHelpText(
      'after',
      `
Examples:
  orctl rule test --mac 02:00:5e:00:00:01 --tag lab
  orctl rule test --hostname printer-3 --at 2026-12-24T23:30:00Z`,
    )
    .action(async (flags: TestFlags, command: Command) => {
      const { tag, userClass, at, duid, mac, ...rest } = flags
      const own: RuleTestRequest = {
        ...rest,
        ...(mac === undefined ? {} : { mac: octets('--mac', mac, '02:00:5e:00:00:01') }),
        ...(duid === undefined ? {} : { duid: octets('--duid', duid, '00:03:00:01:02:00:5e:00:00:01') }),
        ...(tag === undefined ? {} : { tags: tag }),
        ...(userClass === undefined ? {} : { userClasses: userClass }),
        ...(at === undefined ? {} : { at: moment(at) }),
      }
      await withSession(command, async ({ client, format, signal }) => {
        const outcome = await client.testRules(own, signal)
        const shape = dataFormat(format)
        if (shape === 'json') print(`${JSON.stringify(outcome, null, 2)}\n`)
        else if (shape === 'yaml') print(stringify(outcome))
        else if (shape === 'name') print(outcome.rule === null ? '' : `${outcome.rule}\n`)
        else print(told(outcome))
      })
    })
}

/** Octets as leases have them: lower case, with colons. */
function octets(flag: string, text: string, example: string): string {
  const normal = text.toLowerCase().replaceAll('-', ':')
  if (/^[0-9a-f]{2}(:[0-9a-f]{2})+$/.test(normal)) return normal
  throw new Usage(`${flag}: expected pairs of hex digits with colons, such as ${example}, got ${JSON.stringify(text)}`)
}

function moment(text: string): string {
  const at = new Date(text)
  if (!Number.isNaN(at.getTime())) return at.toISOString()
  throw new Usage(`--at: expected a time such as 2026-12-24T18:00:00Z, got ${JSON.stringify(text)}`)
}

/** The outcome in words. */
export function told(outcome: RuleTestShape): string {
  const rows = outcome.considered.map(({ name, mismatch }, index) => [
    String(index + 1),
    plain(name),
    mismatch === null ? 'matches' : `no: ${plain(mismatch)}`,
  ])
  const { template, rule, refusal } = outcome
  const gets =
    template === null
      ? 'nothing'
      : `an instance of ${plain(template.name)}@${template.number}${refusal === null ? '' : `, but would be refused: ${plain(refusal)}`}`
  const costs = outcome.price === null ? '' : `It costs at most ${priceText(outcome.price)}.\n`
  const spending = outcome.spending.map(({ who, most, spent }) => `Spent: ${spentOf(most, [spent])} (${plain(who)}).\n`)
  const where = outcome.backends.length < 2 ? '' : `It is tried on ${outcome.backends.map(plain).join(', then ')}.\n`
  const by = rule !== null ? `rule ${plain(rule)}` : rows.length > 0 ? 'no rule matches' : 'there are no rules'
  return `${rows.length === 0 ? '' : aligned([['#', 'RULE', 'OUTCOME'], ...rows])}The lease gets ${gets} (${by}).\n${where}${costs}${spending.join('')}`
}
