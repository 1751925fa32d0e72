/** The weights that jobs under way need, in the server's store. */
import type { BlobWriter } from "./blob-writer.ts";
import type { MirrorFolder } from "./mirror.ts";
import type { PublishedPolicy } from "./policy.ts";
import type { Reach } from "./reach.ts";
import type { FileRef } from "./wire.ts";

const all = ({ files, deltas }: PublishedPolicy): readonly FileRef[] => [...files, ...deltas];

/** Puts the weights of a run's versions, and takes away those that nobody needs any more. */
export class PublishedWeights {
  private readonly blobs: BlobWriter;
  private readonly reach: Reach;
  private readonly mirror: MirrorFolder | null;
  private published: PublishedPolicy[] = [];

  /** @param mirror where they are put as well */
  constructor(blobs: BlobWriter, reach: Reach, mirror: MirrorFolder | null) {
    this.blobs = blobs;
    this.mirror = mirror;
    this.reach = reach;
  }

  /**
   * Puts a version.
   * @param inUse versions that jobs under way need
   */
  async publish(policy: PublishedPolicy, inUse: ReadonlySet<PublishedPolicy>): Promise<void> {
    const old = this.published.slice(0, -1).filter((one) => !inUse.has(one));
    this.published = [...this.published.filter((one) => !old.includes(one)), policy];
    const kept = new Set(this.published.flatMap(all).map(({ sha256 }) => sha256));
    if (this.mirror) await policy.put(this.mirror);
    await this.reach.do(() => policy.put(this.blobs));
    for (const { sha256 } of old.flatMap(all)) {
      if (kept.has(sha256)) continue;
      await this.mirror?.remove(sha256);
      await this.reach.do(() => this.blobs.remove(sha256));
    }
  }

  /**
   * Puts what is missing.
   * @param lost the server has lost its store
   */
  async putAgain(lost: boolean): Promise<void> {
    if (lost) this.blobs.forget();
    for (const policy of this.published) await policy.put(this.blobs);
  }
}
