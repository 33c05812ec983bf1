/** Commands that doctor advises on a node whose agent is a service: no chart, no pod of the agent's. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import {
  askOnNode,
  log,
  restart,
  restoreRights,
  setValue,
  shellWord,
} from "../installer/doctor/fixes.ts";
import { parseSettings } from "../installer/settings/settings.ts";

const service = parseSettings(
  ({ variable }) =>
    variable === "KUBE_SERVICE_ACCOUNT_TOKEN_PATH" ? "/etc/kuma-cni/token" : undefined,
  {
    needsConfig: false,
  },
);
const pod = { ...service, podNamespace: "mesh", podName: "kuma-cni-x" };

/** Each assignment of the sources, with a value in place of what is put in. */
const assignments = ["surroundings.ts", "cluster.ts", "installed_here.ts"].flatMap((name) => {
  const source = Deno.readTextFileSync(new URL(`../installer/doctor/${name}`, import.meta.url));
  return Array.from(
    source.matchAll(/setValue\(\s*settings,\s*["`]([^"`]*)["`]/g),
    ([, text = ""]) => text.replace(/\$\{.*?\}(?=$|,cni|\})/g, "/x"),
  );
});

Deno.test("doctor advises no chart and no pod where the agent is a service", () => {
  ok(assignments.length >= 7, assignments.join("\n"));
  for (const assignment of [...assignments, "cni.confName=a.conf,cni.confNameIsLoaded=true"]) {
    const fix = setValue(service, assignment);
    match(fix, /^(systemctl|kubectl create clusterrole) /);
    // A name of the chart's own would mean nothing to a service.
    ok(!/helm|(?<!-)cni\.[a-z]/.test(fix), fix);
    ok(setValue(pod, assignment).startsWith("helm upgrade kuma-cni deploy/helm/kuma-cni -n mesh "));
  }
  equal(
    setValue(service, "cni.excludeNamespaces={a,kube-system}"),
    "systemctl restart kuma-cni   # once /etc/kuma-cni/install-cni.env has in the JSON, " +
      '"exclude_namespaces": ["a","kube-system"]',
  );
  deepEqual([restart(service), log(service)], [
    "systemctl restart kuma-cni",
    "journalctl -u kuma-cni -n 50",
  ]);
  match(restoreRights(service), /^kubectl create clusterrole kuma-cni --verb=get --resource=pods /);
});

Deno.test("doctor says when its advice is about all nodes", () => {
  equal(restart(pod), "kubectl delete pod -n mesh kuma-cni-x");
  const unknown = {
    ...pod,
    podName: "",
    podNamespace: "",
    tokenFile: "/var/run/secrets/kubernetes.io/serviceaccount/token",
  };
  match(
    restart(unknown),
    /-l app=kuma-cni {3}# of all nodes; add --field-selector spec\.nodeName=NAME/,
  );
  equal(
    restart({ ...unknown, nodeName: "n1" }),
    "kubectl delete pod -n kube-system -l app=kuma-cni --field-selector spec.nodeName=n1",
  );
});

Deno.test("what others have named is one word of a shell in what doctor advises", async () => {
  const words = ["web-0", "$(reboot)", "a'b", "a b;c", "", "-n", "`x`", 'q"'];
  for (const word of words) {
    const { stdout } = await new Deno.Command("sh", {
      args: ["-c", `printf '<%s>' ${shellWord(word)}`],
    }).output();
    equal(new TextDecoder().decode(stdout), `<${word}>`);
  }
  ok(askOnNode(pod, "n;reboot", "a/b").includes("spec.nodeName='n;reboot'"));
});
