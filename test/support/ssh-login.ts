// Logs in at [::1] with the private key given, and prints the user id there and the server's host key.
import ssh2 from 'ssh2'

const client = new ssh2.Client()
let hostKey = ''
client.on('ready', () => {
  client.exec('printf "uid=%s" "$(id -u)"', (error, channel) => {
    if (error) throw error
    let said = ''
    channel.on('data', (chunk: Buffer) => {
      said += chunk.toString()
    })
    channel.on('close', () => {
      process.stdout.write(`${said}\n${hostKey}\n`)
      client.end()
    })
  })
})
client.connect({
  host: '::1',
  username: 'root',
  privateKey: process.argv[2] ?? '',
  readyTimeout: 5000,
  hostVerifier: (key: Buffer) => {
    hostKey = key.toString('base64')
    return true
  },
})
