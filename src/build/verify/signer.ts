/** Whoever can sign for a user CA. */
export interface Signer {
  /** @returns the certificate line */
  sign(request: {
    /** public key line */
    publicKey: string
    principals: readonly string[]
    /** what sshd writes into its log */
    identity: string
    /** seconds from now, or from one moment to another */
    validity: number | { from: Date; to: Date }
  }): Promise<string>
}
