/**
 * Which preview is drawn next. One is drawn at a time; of each image only the newest waits, so previews never hold up
 * tokens and never pile up: what a machine cannot draw in time is left out. Images take turns.
 */
export class PreviewLine<T> {
  readonly #waiting = new Map<number, T>();
  #isDrawing = false;

  /** Let a preview wait, in place of an older one of the same image. */
  offer(imageIndex: number, preview: T): void {
    this.#waiting.set(imageIndex, preview);
  }

  /** The next preview to draw, or undefined if none waits or one is being drawn. Call `drawn` after it. */
  take(): T | undefined {
    if (this.#isDrawing) return undefined;
    for (const [imageIndex, preview] of this.#waiting) {
      this.#waiting.delete(imageIndex);
      this.#isDrawing = true;
      return preview;
    }
    return undefined;
  }

  /** The preview last taken is done. */
  drawn(): void {
    this.#isDrawing = false;
  }

  /** The image is complete: its waiting preview has lost its use. */
  drop(imageIndex: number): void {
    this.#waiting.delete(imageIndex);
  }
}
