/**
 * Looks a pod up while this process, which a test has given a low limit, has no descriptor left, and
 * once more when some are given back in the middle. Prints how each went, as JSON lines.
 *
 * Argument: path of a kubeconfig whose server does not answer.
 */
import { ApiPodSource } from "../../src/pod/api_source.ts";
import { lookUpPod, PodLookupError } from "../../src/pod/lookup.ts";
import { libc } from "../../src/linux/libc.ts";

const [kubeconfig = ""] = Deno.args;
// The plugin has loaded the library when it looks for a pod.
libc();
const taken: Deno.FsFile[] = [];
const giveBack = () => {
  while (taken.length > 0) taken.pop()!.close();
};
for (const again of [false, true]) {
  try {
    for (;;) taken.push(Deno.openSync("/dev/null"));
  } catch {
    // None is left.
  }
  using source = new ApiPodSource(kubeconfig, 200);
  const retries: string[] = [];
  let result: unknown;
  try {
    await lookUpPod({ namespace: "demo", name: "app-1" }, [source], {
      timeoutSeconds: 1,
      onRetry: ({ error }) => {
        retries.push(error.message);
        if (again) giveBack();
      },
    });
  } catch (error) {
    if (!(error instanceof PodLookupError)) throw error;
    const { message, temporary, hint, problem } = error;
    result = { message, temporary, hint, problem };
  }
  giveBack();
  console.log(JSON.stringify({ retries, result }));
}
