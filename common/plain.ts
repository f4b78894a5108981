/**
 * Text from strangers (host names, messages) as one line that cannot steer a terminal: control and bidirectional
 * formatting characters become U+FFFD.
 */
export function plain(text: string | number | null): string {
  if (text === null || text === '') return '-'
  return String(text).replace(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, '\ufffd')
}
