import { HostUnreachable, InvalidInput, NoRoom, OrchestratorError, wording } from '../../../../../common/errors.ts'

/** What an error of the SDK tells us: EC2's codes stand in `name` ("Error codes for the Amazon EC2 API"). */
interface Thrown {
  readonly name?: unknown
  readonly message?: unknown
  /** Of Node, when nothing answered. */
  readonly code?: unknown
  readonly $metadata?: { readonly httpStatusCode?: number | undefined }
  readonly $response?: { readonly headers?: Readonly<Record<string, string>> }
}

/** Where the call went, for the wording. */
export interface Asked {
  readonly target: string
  readonly region: string
  /** Name of the stored credential; null: an instance role, or what else the SDK finds. */
  readonly credential: string | null
  /** The settings name another endpoint than AWS's own. */
  readonly foreign: boolean
  /** `RunInstances`. */
  readonly action: string
  readonly size?: string | undefined
  readonly image?: string | undefined
}

const REFUSED = new Set([
  'AuthFailure',
  'InvalidClientTokenId',
  'UnrecognizedClientException',
  'SignatureDoesNotMatch',
  'IncompleteSignature',
  'MissingAuthenticationToken',
  'PendingVerification',
  'Blocked',
])
const EXPIRED = new Set(['ExpiredToken', 'ExpiredTokenException', 'RequestExpired', 'TokenRefreshRequired'])
const NOT_PERMITTED = new Set([
  'UnauthorizedOperation',
  'UnauthorizedAccess',
  'AccessDenied',
  'AccessDeniedException',
  'AccountDisabled',
  'OptInRequired',
  'OperationNotPermitted',
])
const SLOW_DOWN = new Set([
  'RequestLimitExceeded',
  'Throttling',
  'ThrottlingException',
  'RequestThrottled',
  'EC2ThrottledException',
  'BandwidthLimitExceeded',
  'SlowDown',
])
/** The service itself, not we; with any 5xx. */
const AWAY = new Set(['InternalError', 'InternalFailure', 'Unavailable', 'ServiceUnavailable', 'RequestTimeout'])
/** No machine, address, disk or rule more: `…LimitExceeded`, `Insufficient…`, and what is neither. */
const FULL =
  /^(\w*LimitExceeded|Insufficient\w+|MaxSpotInstanceCountExceeded|SpotMaxPriceTooLow|MaxScheduledInstanceCapacityExceeded|CapacityReservationLimitExceeded)$/
/** Milliseconds to wait when EC2 throttles: its buckets refill by the second, and it sends no hint. */
const THROTTLED_MS = 5_000

/** What went wrong, in the words that `Provider` promises. @param error of the SDK, or of what lies below it */
export function explained(error: unknown, asked: Asked): OrchestratorError {
  const { name, message, code, $metadata, $response } = (error ?? {}) as Thrown
  const word = typeof name === 'string' ? name : ''
  const said = typeof message === 'string' && message !== '' ? message : wording(error, 300)
  const status = $metadata?.httpStatusCode ?? 0
  const options = { cause: error }
  if (REFUSED.has(word) || EXPIRED.has(word)) {
    const why = EXPIRED.has(word) ? 'it has expired' : said
    return new OrchestratorError(
      'credential-refused',
      `EC2 in ${asked.region} does not accept the credential: ${why}. ${remedy(asked)}`,
      options,
    )
  }
  if (word === 'CredentialsProviderError') {
    return new OrchestratorError(
      'credential-missing',
      `there are no keys for EC2: ${said}. Give this machine an instance role, or store keys with orctl credential and name them in settings.credential`,
      options,
    )
  }
  if (NOT_PERMITTED.has(word)) return notPermitted(word, said, asked, options)
  if (SLOW_DOWN.has(word) || status === 429) {
    return new OrchestratorError('rate-limited', `EC2 in ${asked.region} takes no more calls now: ${said}`, {
      retryable: true,
      retryAfterMs: seconds($response?.headers?.['retry-after']) ?? THROTTLED_MS,
      ...options,
    })
  }
  if (FULL.test(word)) return new NoRoom(`EC2 in ${asked.region} has no room: ${word}: ${said}`, options)
  const invalid = invalidInput(word, said, asked, options)
  if (invalid !== null) return invalid
  if (code === 'ENOTFOUND' && !asked.foreign) {
    return new InvalidInput(
      'settings.provider.region',
      `there is no EC2 endpoint for ${JSON.stringify(asked.region)}`,
      options,
    )
  }
  // Below 300: what came is no answer of EC2, but of something in between.
  if (status >= 500 || status < 300 || AWAY.has(word)) {
    return new HostUnreachable(asked.target, `${asked.action}: ${word === '' ? said : `${word}: ${said}`}`, options)
  }
  return new OrchestratorError('provider-refused', `EC2 refused ${asked.action}: ${word}: ${said}`, options)
}

function notPermitted(word: string, said: string, asked: Asked, options: { cause: unknown }): OrchestratorError {
  // "… is not authorized to perform: iam:PassRole on resource …"
  const right = /perform: ([\w-]+:\w+)/.exec(said)?.[1] ?? `ec2:${asked.action}`
  const why =
    word === 'OptInRequired'
      ? `the account has not opted in to EC2 in ${asked.region}: enable the region for it`
      : `the credential lacks the right ${right}: add it to its policy`
  // EC2 may append an encoded message that explains nothing to a reader.
  return new OrchestratorError('not-permitted', `${why} (${said.replace(/\s*Encoded authorization.*/s, '')})`, options)
}

function remedy({ credential }: Asked): string {
  return credential === null ? 'Look at the role of this machine' : `Set ${credential} anew with orctl credential`
}

/** What no retry mends: which setting or option EC2 does not know. */
function invalidInput(word: string, said: string, asked: Asked, options: { cause: unknown }): InvalidInput | null {
  const wrong = (field: string, text = said) => new InvalidInput(field, text, options)
  if (word.startsWith('InvalidAMIID.') || word === 'InvalidAMIName.NotFound') {
    return wrong('options.image', `EC2 in ${asked.region} has no image ${JSON.stringify(asked.image ?? '')}: ${said}`)
  }
  if (word.startsWith('InvalidInstanceType') || (word === 'InvalidParameterValue' && /instance ?type/i.test(said))) {
    return wrong('options.size', `EC2 in ${asked.region} has no size ${JSON.stringify(asked.size ?? '')}: ${said}`)
  }
  if (word === 'Unsupported' || word === 'UnsupportedOperation') return wrong('options.size')
  if (/^InvalidSubnet(ID)?\.NotFound$|^InvalidSubnet/.test(word)) return wrong('settings.provider.subnet')
  if (word.startsWith('InvalidKeyPair.')) return wrong('settings.provider.keyName')
  if (/IamInstanceProfile|instance profile/i.test(said) && /^(InvalidParameter|NoSuchEntity|Invalid)/.test(word)) {
    return wrong('settings.provider.instanceProfile')
  }
  if (word === 'InvalidParameterValue' && /availability ?zone/i.test(said)) return wrong('settings.provider.zone')
  if (word === 'InvalidVpc.Range' || word === 'InvalidSubnet.Range') return wrong('settings.provider.ipv4Block')
  if (word === 'InvalidUserData.Malformed' || (word === 'InvalidParameterValue' && /user data/i.test(said))) {
    return wrong('services', `EC2 does not take the boot data that are made of them: ${said}`)
  }
  return null
}

function seconds(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,6}$/.test(text) ? Number(text) * 1000 : undefined
}

/** The code by which EC2 says that a thing is not there (any more), or is there already, or is used. */
export function saysSo(error: unknown, code: RegExp): boolean {
  const cause = error instanceof OrchestratorError ? error.cause : error
  return code.test(String((cause as Thrown | undefined)?.name ?? ''))
}
