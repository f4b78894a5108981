import { SourceRefused, shown } from './refused.ts'

/** Where a repository is fetched from, with what shall never be shown or stored kept apart. */
export interface GitPlace {
  /** As git gets it and people see it: without user name and password of a web address. */
  readonly url: string
  /** `user:password` of a web address; null: none was given. */
  readonly credentials: string | null
}

/** Ways to fetch by; `file` only where the operator allows it: it reads this machine's own disk. */
export type GitProtocol = 'https' | 'ssh' | 'git' | 'file'

const HOST = /^(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9._-]*[a-z0-9])?)(:[0-9]{1,5})?$/i
const SSH_USER = /^[a-z0-9_][a-z0-9_.-]*$/i
/** `user@host:path`, the short form of ssh (git-fetch(1), "Git URLs"). */
const SHORT = /^([^@/:]+)@([^@/:]+):(?!\/\/)(.+)$/s

/**
 * Reads a repository's URL. Whatever git could take for an option, a command or another helper is refused.
 * @throws SourceRefused
 */
export function gitPlace(text: string, allowed: readonly GitProtocol[]): GitPlace {
  const refused = (why: string) => new SourceRefused('git-url', `the URL of the git repository ${why}`)
  if (/\p{Cc}/u.test(text) || /%(0[0-9a-f]|1[0-9a-f]|7f)/i.test(text)) throw refused('has a control character in it')
  if (text.includes('\\')) throw refused('has a backslash in it')
  if (text.startsWith('-')) throw refused('begins with "-"')
  const short = SHORT.exec(text)
  if (short !== null && !text.includes('://')) {
    const [, user = '', host = '', path = ''] = short
    if (!allowed.includes('ssh')) throw refused(`is of ssh; allowed: ${allowed.join(', ')}`)
    if (!SSH_USER.test(user) || !HOST.test(host)) throw refused('names no user and host that ssh takes')
    if (path.startsWith('-')) throw refused('has a path that begins with "-"')
    return { url: text, credentials: null }
  }
  const [, protocol = '', user, host = '', path = ''] =
    /^([a-z][a-z0-9+.-]*):\/\/(?:([^/?#@]*)@)?([^/?#]*)(.*)$/is.exec(text) ?? []
  const known = allowed.find((name) => name === protocol.toLowerCase())
  if (known === undefined) {
    throw refused(`must begin with ${allowed.map((name) => `${name}://`).join(', ')}, or be user@host:path`)
  }
  if (path.includes('#')) throw refused('has a "#" in it; name branch or tag beside it (--ref)')
  if (path === '' || path === '/') throw refused('names no repository')
  if (known === 'file') {
    if (host !== '' || user !== undefined) throw refused('is of a file, and must not name a host')
    return { url: `file://${path}`, credentials: null }
  }
  if (!HOST.test(host)) throw refused(`names no host: ${shown(host)}`)
  if (known === 'https') return { url: `https://${host}${path}`, credentials: decoded(user, refused) }
  if (known === 'git' && user !== undefined) throw refused('names a user, which git:// has not')
  if (user !== undefined && !SSH_USER.test(user)) {
    throw refused('names a user that ssh does not take; a password cannot be given, use a key')
  }
  return { url: `${known}://${user === undefined ? '' : `${user}@`}${host}${path}`, credentials: null }
}

function decoded(user: string | undefined, refused: (why: string) => SourceRefused): string | null {
  if (user === undefined || user === '') return null
  try {
    const text = decodeURIComponent(user)
    if (!/\p{Cc}/u.test(text)) return text.includes(':') ? text : `${text}:`
  } catch {
    // No percent-encoding: told below, without the text, which is a secret.
  }
  throw refused('has a user name or password that cannot be read')
}

/**
 * A branch, tag or commit, as git-check-ref-format(1) allows.
 * @throws SourceRefused
 */
export function gitRef(text: string): string {
  const odd =
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is refused
    /[\x00-\x20\x7f~^:?*[\\]|\.\.|@\{|\/\/|^[-+/.]|[/.]$|\.lock$|^@$/.test(text) || text === '' || text.length > 255
  if (odd) throw new SourceRefused('git-url', `${shown(text)} is no name of a branch, tag or commit`)
  return text
}
