/** Names of container images, such as `registry.example:5000/mesh/kuma-cni:0.1.0`. */

/** The parts of an image's name. */
export interface ImageReference {
  /** Host, and port when it is not the usual one. */
  readonly registry: string;
  readonly repository: string;
  readonly tag: string;
}

/** It is not a name of an image; the message tells what about it. */
export class ImageNameError extends Error {
  override readonly name = "ImageNameError";
}

const host = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?$/;
const repositoryPart = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const tagForm = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;

/**
 * Reads the name of an image. Nothing is filled in: who gets an image must not depend on a default.
 *
 * @param text `REGISTRY/REPOSITORY:TAG`.
 * @throws {ImageNameError} when it is not such a name.
 */
export function parseReference(text: string): ImageReference {
  const fail = (why: string): never => {
    throw new ImageNameError(
      `Image name "${text}" ${why}: expected REGISTRY/REPOSITORY:TAG, for example ` +
        '"registry.example:5000/mesh/kuma-cni:1"',
    );
  };
  const slash = text.indexOf("/");
  const registry = text.slice(0, Math.max(slash, 0));
  const colon = text.lastIndexOf(":");
  if (text.includes("@")) fail("has a digest, which only the result can have");
  if (slash < 0 || !/[.:]|^localhost$/.test(registry) || !host.test(registry)) {
    fail("does not begin with the host of a registry");
  }
  if (colon < slash) fail("has no tag");
  const repository = text.slice(slash + 1, colon);
  const tag = text.slice(colon + 1);
  if (
    repository.length > 255 || !repository.split("/").every((part) => repositoryPart.test(part))
  ) {
    fail(`has the repository "${repository}", which is not in small letters, digits and . _ - /`);
  }
  if (!tagForm.test(tag)) fail(`has the tag "${tag}", which is not a word of up to 128 letters`);
  return { registry, repository, tag };
}
