{{/* Of every object; servers are found by the first two of them. */}}
{{- define "remote-gym.selector" -}}
app.kubernetes.io/name: remote-gym
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "remote-gym.labels" -}}
{{ include "remote-gym.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
