import type { Readable } from 'node:stream'
import { eventMessages } from './event-messages.ts'
import { MachinesClient } from './machines-client.ts'
import { ANSWER_WITHIN_MS, type ClientOptions, STREAM_SILENT_MS, Transport, withQuery } from './transport.ts'
import {
  type ApplyRequest,
  type ApplyShape,
  applyShape,
  type BackendReportShape,
  type BuildShape,
  backendReportShape,
  backendShape,
  buildShape,
  type CredentialRequest,
  type CredentialShape,
  credentialShape,
  type DiffShape,
  diffShape,
  type EventShape,
  eventShape,
  type GitBuildRequest,
  hostShape,
  type InstanceDetailShape,
  type InstanceShape,
  instanceDetailShape,
  instanceShape,
  type JoinTokenShape,
  joinTokenShape,
  leaseShape,
  listOf,
  type RulesShape,
  type RuleTestRequest,
  type RuleTestShape,
  rulesShape,
  ruleTestShape,
  type TemplateDetailShape,
  type TemplateShape,
  templateDetailShape,
  templateShape,
} from './wire.ts'

/** Milliseconds without progress after which an upload counts as stuck: an archive may be checked for a while. */
const UPLOAD_SILENT_MS = 120_000

/** A message of the event stream: an event, or word that events between two ids are no longer kept. */
export type StreamMessage = { readonly event: EventShape } | { readonly gap: { after: number; oldest: number } }

/** The REST API, typed. Every call rejects with ServerUnreachable, with Refused, or with the signal's reason. */
export class ApiClient {
  readonly #to: Transport
  readonly machines: MachinesClient

  constructor(options: ClientOptions) {
    this.#to = new Transport(options)
    this.machines = new MachinesClient(this.#to)
  }

  leases = (options: { all: boolean }, signal: AbortSignal) =>
    this.#to.list('/v1/leases', { all: String(options.all) }, leaseShape, signal)
  instances = (options: { all: boolean }, signal: AbortSignal) =>
    this.#to.list('/v1/instances', { all: String(options.all) }, instanceShape, signal)
  hosts = (signal: AbortSignal) => this.#to.list('/v1/hosts', {}, hostShape, signal)
  templates = (options: { all: boolean }, signal: AbortSignal) =>
    this.#to.list('/v1/templates', { all: String(options.all) }, templateShape, signal)
  backends = (signal: AbortSignal) => this.#to.list('/v1/backends', {}, backendShape, signal)
  credentials = (signal: AbortSignal) => this.#to.list('/v1/credentials', {}, credentialShape, signal)
  builds = (signal: AbortSignal) => this.#to.list('/v1/builds', {}, buildShape, signal)
  events = (options: { limit: number; instance?: string | undefined }, signal: AbortSignal) =>
    this.#to.list('/v1/events', { limit: String(options.limit), instance: options.instance }, eventShape, signal)

  async instance(idOrName: string, signal: AbortSignal): Promise<InstanceDetailShape> {
    return await this.#to.json('GET', `/v1/instances/${encodeURIComponent(idOrName)}`, instanceDetailShape, signal)
  }

  /** Asks for the instance to be gone; it is so a little later. */
  async remove(idOrName: string, signal: AbortSignal): Promise<InstanceShape> {
    return await this.#to.json('DELETE', `/v1/instances/${encodeURIComponent(idOrName)}`, instanceShape, signal)
  }

  async createJoinToken(
    body: { host?: string | undefined; validSeconds?: number | undefined },
    signal: AbortSignal,
  ): Promise<JoinTokenShape> {
    return await this.#to.json('POST', '/v1/join-tokens', joinTokenShape, signal, body)
  }

  async *logs(
    idOrName: string,
    options: { tail: number; follow: boolean; service?: string | undefined },
    signal: AbortSignal,
  ): AsyncIterable<string> {
    const query = { tail: String(options.tail), follow: String(options.follow), service: options.service }
    const path = withQuery(`/v1/instances/${encodeURIComponent(idOrName)}/logs`, query)
    const response = await this.#to.ask('GET', path, signal, { silentMs: options.follow ? 0 : ANSWER_WITHIN_MS })
    response.setEncoding('utf8')
    yield* this.#to.body(response, signal)
  }

  /** One connection's worth of events: after `after`, or beginning with the newest `last`. Ends when the server ends it. */
  async *eventStream(
    options: { after: number | null; last: number; instance?: string | undefined },
    signal: AbortSignal,
  ): AsyncIterable<StreamMessage> {
    const headers: Record<string, string> = { Accept: 'text/event-stream' }
    if (options.after !== null) headers['Last-Event-ID'] = String(options.after)
    const path = withQuery('/v1/events', { limit: String(options.last), instance: options.instance })
    const response = await this.#to.ask('GET', path, signal, { headers, silentMs: STREAM_SILENT_MS })
    response.setEncoding('utf8')
    for await (const message of eventMessages(this.#to.body(response, signal))) {
      const data: unknown = JSON.parse(message.data)
      if (message.event === 'gap') yield { gap: data as { after: number; oldest: number } }
      else yield { event: this.#to.checked(eventShape, data) }
    }
  }

  /** @param name NAME, NAME@NUMBER or NAME@VERSION */
  async template(name: string, signal: AbortSignal): Promise<TemplateDetailShape> {
    return await this.#to.json('GET', `/v1/templates/${encodeURIComponent(name)}`, templateDetailShape, signal)
  }

  async templateVersions(name: string, signal: AbortSignal): Promise<readonly TemplateShape[]> {
    return await this.#to.list(`/v1/templates/${encodeURIComponent(name)}/versions`, {}, templateShape, signal)
  }

  /** How one version differs from another; absent: the one before, and the one that is rolled out. */
  async templateDiff(
    name: string,
    options: { from?: string | undefined; to?: string | undefined },
    signal: AbortSignal,
  ): Promise<DiffShape> {
    const path = withQuery(`/v1/templates/${encodeURIComponent(name)}/diff`, options)
    return await this.#to.json('GET', path, diffShape, signal)
  }

  /** @param to a version's number or hash, or `previous` */
  async rollout(name: string, to: string | number, signal: AbortSignal): Promise<TemplateShape> {
    return await this.#to.json('POST', `/v1/templates/${encodeURIComponent(name)}/rollout`, templateShape, signal, {
      to,
    })
  }

  /** Resolves when it is removed. @throws Refused `template-in-use` */
  async removeTemplate(name: string, signal: AbortSignal): Promise<void> {
    const path = `/v1/templates/${encodeURIComponent(name)}`
    const response = await this.#to.ask('DELETE', path, signal, { silentMs: ANSWER_WITHIN_MS })
    response.resume()
  }

  /** @throws Refused `faulty-files` with the faults */
  async apply(request: ApplyRequest, signal: AbortSignal): Promise<ApplyShape> {
    return await this.#to.json('POST', '/v1/apply', applyShape, signal, request)
  }

  async rules(signal: AbortSignal): Promise<RulesShape> {
    return await this.#to.json('GET', '/v1/rules', rulesShape, signal)
  }

  async testRules(request: RuleTestRequest, signal: AbortSignal): Promise<RuleTestShape> {
    return await this.#to.json('POST', '/v1/rules/test', ruleTestShape, signal, request)
  }

  /** Sends a source and has an image built of it. */
  async buildFromArchive(
    query: { template: string; source: string; format: string; base?: string | undefined },
    body: Readable,
    signal: AbortSignal,
  ): Promise<BuildShape> {
    const headers = { 'Content-Type': 'application/octet-stream' }
    const options = { body, headers, silentMs: UPLOAD_SILENT_MS }
    return await this.#to.answer('POST', withQuery('/v1/builds', query), buildShape, signal, options)
  }

  async buildFromGit(request: GitBuildRequest, signal: AbortSignal): Promise<BuildShape> {
    return await this.#to.json('POST', '/v1/builds', buildShape, signal, request)
  }

  async build(id: string, signal: AbortSignal): Promise<BuildShape> {
    return await this.#to.json('GET', `/v1/builds/${encodeURIComponent(id)}`, buildShape, signal)
  }

  /** Asks that it be ended; it is so a little later. @throws Refused `build-ended`, `build-elsewhere` */
  async cancelBuild(id: string, signal: AbortSignal): Promise<BuildShape> {
    return await this.#to.json('DELETE', `/v1/builds/${encodeURIComponent(id)}`, buildShape, signal)
  }

  async *buildLog(id: string, options: { follow: boolean }, signal: AbortSignal): AsyncIterable<string> {
    const path = withQuery(`/v1/builds/${encodeURIComponent(id)}/log`, { follow: String(options.follow) })
    const response = await this.#to.ask('GET', path, signal, { silentMs: options.follow ? 0 : ANSWER_WITHIN_MS })
    response.setEncoding('utf8')
    yield* this.#to.body(response, signal)
  }

  /** Asks every target of a backend now. */
  async checkBackend(name: string, signal: AbortSignal): Promise<BackendReportShape> {
    return await this.#to.json('POST', `/v1/backends/${encodeURIComponent(name)}/check`, backendReportShape, signal, {})
  }

  /** @throws Refused `credential-test-failed`, `credential-unused` */
  async setCredential(name: string, request: CredentialRequest, signal: AbortSignal): Promise<CredentialShape> {
    return await this.#to.json('PUT', `/v1/credentials/${encodeURIComponent(name)}`, credentialShape, signal, request)
  }

  /** How each backend that uses it answers. @throws Refused `credential-unused` */
  async testCredential(name: string, signal: AbortSignal): Promise<readonly BackendReportShape[]> {
    const path = `/v1/credentials/${encodeURIComponent(name)}/test`
    return (await this.#to.json('POST', path, listOf(backendReportShape), signal, {})).items
  }

  /** @throws Refused `credential-in-use` */
  async removeCredential(name: string, options: { force: boolean }, signal: AbortSignal): Promise<void> {
    const path = withQuery(`/v1/credentials/${encodeURIComponent(name)}`, { force: String(options.force) })
    const response = await this.#to.ask('DELETE', path, signal, { silentMs: ANSWER_WITHIN_MS })
    response.resume()
  }

  close(): void {
    this.#to.close()
  }
}
