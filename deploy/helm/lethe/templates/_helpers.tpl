{{- define "lethe.name" -}}
{{- if contains "lethe" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-lethe" (.Release.Name | trunc 34 | trimSuffix "-") }}{{ end }}
{{- end }}

{{- define "lethe.selector" -}}
app.kubernetes.io/name: lethe
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "lethe.labels" -}}
{{ include "lethe.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "lethe.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "lethe.name" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{/* Of a volume that this chart makes; null is the cluster's default class. */}}
{{- define "lethe.claim" -}}
accessModes: [{{ .accessMode }}]
{{- if not (kindIs "invalid" .storageClass) }}
storageClassName: {{ .storageClass | quote }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end }}

{{/* The server's settings; what the chart says itself can't be said in "settings". */}}
{{- define "lethe.settings" -}}
{{- $own := dict
  "model" .Values.model
  "small_model" .Values.smallModel
  "port" .Values.ports.http
  "admin_port" .Values.ports.admin
  "keys_file" (printf "/etc/lethe/keys/%s" .Values.keys.file)
  "state_dir" (.Values.state.url | default "/state")
  "cache_dir" "/data/cache/lethe"
  "drain_timeout_s" .Values.drainTimeoutSeconds
-}}
{{- if .Values.audit }}{{ $_ := set $own "audit_log" "/data/audit.jsonl" }}{{ end }}
{{- with .Values.modules }}{{ $_ := set $own "modules" . }}{{ end }}
{{- with .Values.routes }}{{ $_ := set $own "routes" . }}{{ end }}
{{- if .Values.trustedKeys.configMap }}
{{- $files := list }}
{{- range .Values.trustedKeys.files }}{{ $files = append $files (printf "/etc/lethe/trusted/%s" .) }}{{ end }}
{{- $_ := set $own "trusted_keys" $files }}
{{- end }}
{{- range $name, $_ := .Values.settings }}
{{- if hasKey $own $name }}{{ fail (printf "settings.%s: a value of the chart's own says this" $name) }}{{ end }}
{{- end }}
{{- toYaml (merge $own .Values.settings) }}
{{- end }}
