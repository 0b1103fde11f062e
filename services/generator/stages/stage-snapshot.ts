/** How a stage engine stands. */
export interface StageSnapshot {
  /** Requests none of whose images has started. */
  readonly waitingRequests: number;
  /** Images waiting for a slot. */
  readonly waiting: number;
  /** Images with a slot. */
  readonly running: number;
  /** Image tokens still to be made for the images waiting. */
  readonly waitingTokens: number;
}
