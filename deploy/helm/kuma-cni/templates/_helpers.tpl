{{/* Names and labels that all objects have in common; installer/manifests/objects.ts has the same. */}}

{{- define "kuma-cni.name" -}}
{{ .Values.nameOverride | default "kuma" }}-cni
{{- end }}

{{/* The labels that the DaemonSet selects by; they may never change. */}}
{{- define "kuma-cni.selectorLabels" -}}
app: {{ include "kuma-cni.name" . }}
app.kubernetes.io/name: {{ .Values.nameOverride | default "kuma" | quote }}
app.kubernetes.io/instance: {{ .Values.instance | quote }}
{{- end }}

{{- define "kuma-cni.labels" -}}
{{ include "kuma-cni.selectorLabels" . }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* One mapping laid over another; sprig's merge takes an empty text for none. */}}
{{- define "kuma-cni.overlay" -}}
{{- $result := deepCopy (index . 0) }}
{{- range $key, $value := index . 1 }}{{ $_ := set $result $key $value }}{{ end }}
{{- toYaml $result }}
{{- end }}

{{- define "kuma-cni.image" -}}
{{- with .Values.cni.image.registry | default .Values.global.image.registry }}{{ . }}/{{ end -}}
{{ .Values.cni.image.repository }}:{{ .Values.cni.image.tag | default .Values.global.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Whether the engine ebpf may come to work on a node. */}}
{{- define "kuma-cni.usesEbpf" -}}
{{- if or .Values.experimental.ebpf.enabled (eq .Values.cni.engine "ebpf") .Values.cni.ebpf.allowPods }}yes{{ end }}
{{- end }}

{{/* The plugin's configuration; its text must be the command's byte for byte, for the checksum. */}}
{{- define "kuma-cni.networkConfig" -}}
{{- $cni := .Values.cni }}
{{- $excluded := concat (list "kube-system" $cni.namespace) ($cni.excludeNamespaces | default list) | uniq }}
{{- $kubernetes := dict "kubeconfig" "__KUBECONFIG_FILEPATH__" "cni_bin_dir" $cni.binDir "exclude_namespaces" $excluded }}
{{- with $cni.clusterDns }}{{ $_ := set $kubernetes "cluster_dns" . }}{{ end }}
{{- with .Values.namespaceAllowList }}{{ $_ := set $kubernetes "include_namespaces" . }}{{ end }}
{{- $config := dict "cniVersion" "0.3.1" "name" "kuma-cni" "type" "kuma-cni" "log_level" $cni.logLevel "kubernetes" $kubernetes }}
{{- if ne $cni.engine "auto" }}{{ $_ := set $config "engine" $cni.engine }}{{ end }}
{{- $given := .Values.experimental.ebpf }}
{{- if $given.enabled }}{{ $_ := set $config "engine" "ebpf" }}{{ end }}
{{- if include "kuma-cni.usesEbpf" . }}
{{- $ebpf := dict }}
{{- if ne $given.bpffsPath "/sys/fs/bpf" }}{{ $_ := set $ebpf "bpffs_path" $given.bpffsPath }}{{ end }}
{{- if ne $given.cgroupPath "/sys/fs/cgroup" }}{{ $_ := set $ebpf "cgroup_path" $given.cgroupPath }}{{ end }}
{{- if $cni.ebpf.strict }}{{ $_ := set $ebpf "strict" true }}{{ end }}
{{- with $ebpf }}{{ $_ := set $config "ebpf" . }}{{ end }}
{{- end }}
{{- if $cni.ebpf.allowPods }}{{ $_ := set $config "allow_pod_settings" (list "ebpf.enabled") }}{{ end }}
{{- toPrettyJson $config }}
{{- end }}

{{- define "kuma-cni.endpoint" -}}
port: health
path: /metrics
interval: {{ .Values.cni.monitoring.interval }}
relabelings:
  - sourceLabels: [__meta_kubernetes_pod_node_name]
    targetLabel: node
{{- end }}

{{/* The controller's pods must not have the CNI's label app, by which a node's CNI pod is found. */}}
{{- define "kuma-cni.controllerSelectorLabels" -}}
{{ include "kuma-cni.selectorLabels" . | fromYaml | merge (dict "app" (printf "%s-controller" (include "kuma-cni.name" .))) | toYaml }}
{{- end }}

{{- define "kuma-cni.controllerLabels" -}}
{{ include "kuma-cni.labels" . | fromYaml | merge (dict "app" (printf "%s-controller" (include "kuma-cni.name" .))) | toYaml }}
{{- end }}

{{- define "kuma-cni.controllerPodSecurity" -}}
runAsGroup: 65532
runAsNonRoot: true
runAsUser: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "kuma-cni.controllerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end }}
