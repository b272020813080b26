/**
 * Proxmox restricts tags where datacenter.cfg says so (`user-tag-access`, `registered-tags`): what it allows then only
 * `Sys.Modify` on `/` goes beyond. That is never asked of a token because of tags: it is the right to reconfigure the whole
 * cluster.
 */

/**
 * Whether Proxmox asks a virtual machine's creator for its tags: for VM.Config.Options on the machine itself, which is in no pool
 * yet, and whether the tags are free. Containers' creators are asked everywhere.
 */
export function checksTagsOfNewMachines({ major, minor }: { major: number; minor: number }): boolean {
  return major > 9 || (major === 9 && minor >= 2)
}

/** The words of Proxmox VE 8.4 and 9.2: in a refused call, or, where a virtual machine is created, at the end of its task. */
const REFUSED = /Permission check failed \(\/, Sys\.Modify for modifying tag '([^']*)'\)/

/** Proxmox VE 9.2 compares a new machine's tags with this, and refuses it unless all tags are free. */
const NO_TAG = /^HASH\(0x[0-9a-f]+\)$/

/**
 * What is to be said of such a refusal; undefined where the words are about something else.
 * @param text Proxmox's own words
 */
export function restrictedTag(text: string): { what: string; why: string; next: string } | undefined {
  const tag = REFUSED.exec(text)?.[1]
  if (tag === undefined) return undefined
  const isOwn = NO_TAG.test(tag) || tag.startsWith('ib-')
  const named = NO_TAG.test(tag) ? 'a guest tags' : `a guest the tag ${tag}`
  const free = 'write `user-tag-access: user-allow=free` into /etc/pve/datacenter.cfg'
  return {
    what: `Proxmox does not let these credentials give ${named}`,
    why: `datacenter.cfg restricts tags (user-tag-access, registered-tags), by which imagebuild knows its guests\n${text.trim()}`,
    next: isOwn
      ? `${free}, or leave that line out, and take what begins with ib- out of \`registered-tags\` there`
      : `take ${tag} out of \`template.tags\` in image.yaml, or out of \`registered-tags\` in /etc/pve/datacenter.cfg; or, where that has \`user-tag-access\`, ${free}`,
  }
}
