/**
 * The named formats of Proxmox's schema, each with the text that Proxmox answers. A check gives undefined when
 * the value is fine.
 */
type Check = (text: string) => string | undefined

const matching =
  (pattern: RegExp, problem: string | ((text: string) => string)): Check =>
  (text) =>
    pattern.test(text) ? undefined : typeof problem === 'string' ? problem : problem(text)

/** Proxmox's lists: separated by comma, semicolon, blanks, or NUL (a form key given twice). */
export function splitList(text: string): string[] {
  return text.split(/[,;\s\0]+/).filter((item) => item !== '')
}

const eachOf =
  (check: Check): Check =>
  (text) =>
    splitList(text)
      .map(check)
      .find((problem) => problem !== undefined)

const OCTET = '(?:25[0-5]|2[0-4]\\d|1?\\d?\\d)'
const IPV4 = new RegExp(`^${OCTET}(?:\\.${OCTET}){3}$`)
const IPV6 = /^(?=.*:)[0-9a-f:]{2,39}(?:\d+\.\d+\.\d+\.\d+)?$/i
const DNS_LABEL = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?'
const DNS_NAME = new RegExp(`^${DNS_LABEL}(?:\\.${DNS_LABEL})*$`)
const VOLUME_ID = /^([a-z][a-z0-9\-_.]*[a-z0-9]):(.+)$/i
const CONTENT_TYPES = ['images', 'rootdir', 'vztmpl', 'iso', 'backup', 'snippets', 'import', 'none']

const address: Check = (text) =>
  IPV4.test(text) || IPV6.test(text) || DNS_NAME.test(text)
    ? undefined
    : `value does not look like a valid address: ${text}`

const configId = matching(/^[a-z][a-z0-9_-]+$/i, (text) => `invalid configuration ID '${text}'`)
const vmid = matching(/^[1-9]\d{2,8}$/, 'value does not look like a valid VM ID')
const storageId = matching(
  /^[a-z][a-z0-9\-_.]*[a-z0-9]$/i,
  (text) => `storage ID '${text}' contains illegal characters`,
)
const userId = matching(
  /^[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+$/,
  (text) => `value '${text}' does not look like a valid user name`,
)
const content: Check = (text) => (CONTENT_TYPES.includes(text) ? undefined : `invalid content type '${text}'`)
const volumeId: Check = (text) => (VOLUME_ID.test(text) ? undefined : `unable to parse volume ID '${text}'`)

function isCidr(text: string, pattern: RegExp, most: number): boolean {
  const [ip = '', bits = '', ...more] = text.split('/')
  return pattern.test(ip) && /^\d+$/.test(bits) && Number(bits) <= most && more.length === 0
}

const ipConfig: Check = (text) => {
  const found = Object.fromEntries(text.split(',').map((part) => part.split('=', 2) as [string, string]))
  const lines: string[] = []
  for (const [key, value = ''] of Object.entries(found)) {
    if (key === 'ip' && value !== 'dhcp' && !isCidr(value, IPV4, 32)) {
      lines.push(`ip: invalid format - value does not look like a valid ipv4 network configuration\n`)
    } else if (key === 'ip6' && value !== 'dhcp' && value !== 'auto' && !isCidr(value, IPV6, 128)) {
      lines.push(`ip6: invalid format - value does not look like a valid ipv6 network configuration\n`)
    } else if (key === 'gw' && !IPV4.test(value)) {
      lines.push(`gw: invalid format - value does not look like a valid ipv4 address\n`)
    } else if (key === 'gw6' && !IPV6.test(value)) {
      lines.push(`gw6: invalid format - value does not look like a valid ipv6 address\n`)
    } else if (!['ip', 'ip6', 'gw', 'gw6'].includes(key)) {
      lines.push(
        `${key}: property is not defined in schema and the schema does not allow additional properties`,
      )
    }
  }
  if (lines.length > 0) return `format error\n${lines.join('\n')}`
  if (found.gw !== undefined && found.ip === undefined)
    return 'gateway specified without specifying an IP address'
  if (found.gw6 !== undefined && found.ip6 === undefined)
    return 'IPv6 gateway specified without specifying an IPv6 address'
  if (found.gw !== undefined && found.ip === 'dhcp')
    return 'specifying a gateway together with DHCP is not allowed'
  return undefined
}

const BOOT_DEVICE = /^(?:ide[0-3]|scsi(?:[12]?\d|30)|virtio(?:\d|1[0-5])|sata[0-5]|net\d+|usb\d+|hostpci\d+)$/
const boot: Check = (text) => {
  if (text.trim() === '' || /^(?:legacy=)?[acdn]{1,4}$/.test(text)) return undefined
  const order = /^order=(.*)$/.exec(text)?.[1]
  if (order === undefined) return 'value does not look like a valid boot order'
  const wrong = splitList(order).find((device) => !BOOT_DEVICE.test(device))
  return wrong === undefined
    ? undefined
    : `format error\nboot.order: invalid format - invalid boot device '${wrong}'\n`
}

/** FACTS of each name: what clients send, and what Proxmox says when it is wrong. */
export const FORMATS = {
  address,
  'address-list': eachOf(address),
  boot,
  configid: configId,
  'configid-list': eachOf(configId),
  content,
  'content-list': eachOf(content),
  'dns-name-list': eachOf(matching(DNS_NAME, 'value does not look like a valid DNS name')),
  'dns-name': matching(DNS_NAME, 'value does not look like a valid DNS name'),
  'disk-size': matching(/^\d+(\.\d+)?[KMGT]?$/, 'value does not look like a valid disk size'),
  bridge: matching(/^[-_.\w]+$/, (text) => `invalid bridge ID '${text}'`),
  email: matching(/^(?:[^\s@]+@[^\s@]+)?$/, 'value does not look like a valid email address'),
  'group-list': eachOf(
    matching(/^[A-Za-z0-9.\-_]+$/, (text) => `group name '${text}' contains invalid characters`),
  ),
  group: matching(/^[A-Za-z0-9.\-_]+$/, (text) => `group name '${text}' contains invalid characters`),
  ipconfig: ipConfig,
  ipv4: matching(IPV4, 'value does not look like a valid ipv4 address'),
  ipv6: matching(IPV6, 'value does not look like a valid ipv6 address'),
  'ipv4-config': (text) =>
    /^(dhcp|manual)$/.test(text) || isCidr(text, IPV4, 32)
      ? undefined
      : 'value does not look like a valid ipv4 network configuration',
  'ipv6-config': (text) =>
    /^(auto|dhcp|manual)$/.test(text) || isCidr(text, IPV6, 128)
      ? undefined
      : 'value does not look like a valid ipv6 network configuration',
  'ip-list': eachOf((text) =>
    IPV4.test(text) || IPV6.test(text) ? undefined : 'value does not look like a valid IP address',
  ),
  mac: matching(
    /^[a-f0-9][02468ace](?::[a-f0-9]{2}){5}$/i,
    'value does not look like a valid unicast MAC address',
  ),
  node: matching(new RegExp(`^${DNS_LABEL}$`), 'value does not look like a valid node name'),
  poolid: matching(/^[A-Za-z0-9.\-_]+(?:\/[A-Za-z0-9.\-_]+){0,2}$/, (text) => `invalid pool ID '${text}'`),
  'privilege-list': () => undefined,
  realm: matching(/^[A-Za-z][A-Za-z0-9.\-_]+$/, 'value does not look like a valid realm'),
  role: matching(/^[A-Za-z0-9.\-_]+$/, (text) => `role name '${text}' contains invalid characters`),
  'role-list': eachOf(
    matching(/^[A-Za-z0-9.\-_]+$/, (text) => `role name '${text}' contains invalid characters`),
  ),
  storage: storageId,
  'storage-list': eachOf(storageId),
  'status-list': eachOf(
    matching(/^(ok|error|warning|unknown)$/i, (text) => `'${text}' is not a valid task status type`),
  ),
  'tag-list': eachOf(matching(/^[a-z0-9_][a-z0-9_\-+.]*$/i, 'invalid characters in tag')),
  'token-list': eachOf(
    matching(
      /^[^\s:/]+@[^\s!]+![A-Za-z][A-Za-z0-9.\-_]+$/,
      (text) => `value '${text}' does not look like a valid token ID`,
    ),
  ),
  urlencoded: matching(/^[-%a-zA-Z0-9_.!~*'()]*$/, (text) => `invalid urlencoded string: ${text}`),
  user: userId,
  'user-list': eachOf(userId),
  vmid,
  'vmid-list': eachOf(vmid),
  volume: volumeId,
  /** a drive's first word: a volume, `none`, `cdrom`, or a path (which only root may use) */
  'volume-or-path': (text) =>
    /^(?:none|cdrom|\/.+)$/.test(text) || VOLUME_ID.test(text)
      ? undefined
      : `unable to parse volume ID '${text}'`,
} satisfies Record<string, Check>

export type FormatName = keyof typeof FORMATS

export function checkFormat(name: FormatName, text: string): string | undefined {
  return (FORMATS[name] as Check)(text)
}
