package scan

import (
	"context"
	"strings"

	"github.com/weightseal/weightseal/model"
)

// kerasDetector judges Keras archives: the configuration, and every member as
// a file of its own.
type kerasDetector struct{}

func (kerasDetector) Name() string { return "keras" }

func (kerasDetector) Wants(f model.File) bool {
	return f.Format == model.Keras || f.Format == model.ZIP && f.Declared == model.Keras
}

func (kerasDetector) Scan(ctx context.Context, _ model.File, b model.Blob) (Verdict, []Finding, error) {
	r := &report{verdict: Safe}
	d := readZip(r, b, b.Size())
	if d == nil {
		return r.result()
	}
	for _, e := range d.entries {
		switch {
		case e.name == "config.json" || e.name == "metadata.json" || strings.HasSuffix(e.name, "/"):
		case strings.HasSuffix(e.name, ".weights.h5"), strings.HasPrefix(e.name, "assets/"):
		default:
			r.add("WS-KERAS-004", e.header, "the member %q", clip(e.name)).Inner = clip(e.name)
		}
	}
	err := d.scanEntries(ctx, b, func(string) bool { return true })
	if err != nil {
		return r.verdict, r.findings, err
	}
	for _, f := range r.findings {
		if f.Inner != "config.json" {
			continue
		}
		switch f.Rule {
		case "WS-CONFIG-003":
			r.add("WS-KERAS-003", -1, "config.json: %s", f.Message).Inner = f.Inner
		case "WS-CONFIG-004":
			r.add("WS-KERAS-003", -1, "config.json is no JSON").Inner = f.Inner
		}
	}
	return r.result()
}

// kerasObject collects the members of a JSON object that tell a serialised
// object of Keras: {"module", "class_name", "config", "registered_name"}.
type kerasObject struct {
	module, name, registered string
	config                   bool
	configText               string
	function                 string // of the config
}

func (k *kerasObject) set(key, s string, kind byte) {
	switch key {
	case "class_name":
		if kind == '"' {
			k.name = s
		}
	case "module":
		if kind == '"' {
			k.module = s
		}
	case "registered_name":
		if kind == '"' {
			k.registered = s
		}
	case "config":
		k.config = true
		if kind == '"' {
			k.configText = s
		}
	}
}

// judge says what deserialising the object does
// (keras/src/saving/serialization_lib.py).
func (k *kerasObject) judge(r *report, off int64) {
	if k.name == "" || !k.config && k.module == "" {
		return
	}
	shown := clip(k.name)
	if k.module != "" {
		shown = clip(k.module) + "." + shown
	}
	switch {
	case isCodeLayer(k.name), k.name == "TFOpLambda" && !isComputingSymbol(k.function):
		r.add("WS-KERAS-001", off, "%s runs code of the configuration", shown)
	case k.name == "function" && !isKerasFunction(k.configText):
		r.add("WS-KERAS-001", off, "the function %s of %s is called", clip(k.configText), clip(k.module))
	case k.module != "" && k.name != "function" && k.name[0] >= 'a' && k.name[0] <= 'z' && !(k.module == "builtins" && isKerasBuiltin(k.name)):
		r.add("WS-KERAS-001", off, "%s is a function that loading the model finds and calls", shown)
	case k.module != "builtins" && k.name != "function" && !isKerasPackage(topOf(k.module)) && (isStdlib(topOf(k.module)) || isCommonPackage(topOf(k.module))):
		r.add("WS-KERAS-001", off, "%s is imported and made by loading the model", shown)
	case k.module == "" || k.module == "builtins" && isKerasBuiltin(k.name):
		if !isKerasLayer(k.name) && !isKerasOptimizer(strings.TrimPrefix(k.name, "Custom>")) && k.module == "" && k.name != "function" {
			r.add("WS-KERAS-002", off, "%s is no class of Keras that is known here", shown)
		}
	case !strings.HasPrefix(k.module, "keras.") && k.module != "keras" && !strings.HasPrefix(k.module, "tensorflow.keras"):
		r.add("WS-KERAS-002", off, "%s is of another package", shown)
	case k.name != "function" && !isKerasLayer(k.name) && !isKerasModule(k.module):
		r.add("WS-KERAS-002", off, "%s is no class of Keras that is known here", shown)
	case k.registered != "" && strings.Contains(k.registered, ">") && !strings.HasPrefix(k.registered, "keras"):
		r.add("WS-KERAS-002", off, "%s is registered by another package", clip(k.registered))
	}
}

// isComputingSymbol says whether a function of TensorFlow, by its path, only
// computes. TFOpLambda layers call the one that they name.
func isComputingSymbol(path string) bool {
	top, _, nested := strings.Cut(path, ".")
	if nested {
		return isComputingModule(top)
	}
	return path != "" && !isReachingSymbol(path)
}

var isComputingModule = words(`math nn linalg __operators__ strings image signal sparse ragged random bitwise sets keras`)

var isReachingSymbol = words(`py_function numpy_function load_library load_op_library print import_graph_def function py_func Print
no_gradient custom_gradient make_ndarray`)

// isKerasPackage knows the packages whose classes Keras models are made of.
var isKerasPackage = words(`keras tensorflow tf_keras keras_core keras_cv keras_hub keras_nlp tensorflow_addons tensorflow_hub
tensorflow_probability transformers`)

// isCodeLayer knows the classes that hold code, or load what they are given.
var isCodeLayer = words(`Lambda __lambda__ TorchModuleWrapper TFSMLayer FlaxLayer JaxLayer StringLookupFromFile`)

// isKerasModule knows the modules of which every class is built by its
// configuration alone.
var isKerasModule = words(`keras.initializers keras.regularizers keras.constraints keras.optimizers keras.losses keras.metrics
keras.optimizers.schedules keras.src.engine.functional keras.dtype_policies keras.activations keras.quantizers
keras.src.ops.numpy keras.src.ops.nn keras.src.ops.math keras.src.ops.linalg keras.src.ops.image`)

// isKerasOptimizer knows the optimizers, which some versions register under
// the name of a package of one's own.
var isKerasOptimizer = words(`Adam AdamW SGD RMSprop Adagrad Adadelta Adamax Nadam Ftrl Lion Adafactor`)

var isKerasBuiltin = words(`dict list tuple set int float str bool slice NoneType bytes complex ellipsis`)

// isKerasFunction knows the functions that configurations name: activations,
// losses and metrics.
var isKerasFunction = words(`relu relu6 elu selu gelu celu glu silu swish sigmoid hard_sigmoid hard_silu hard_swish softmax softplus softsign tanh
exponential linear leaky_relu mish log_softmax log_sigmoid soft_shrink hard_shrink hard_tanh tanh_shrink threshold squareplus sparse_plus sparsemax
mean_squared_error mse mean_absolute_error mae binary_crossentropy categorical_crossentropy sparse_categorical_crossentropy
kl_divergence cosine_similarity huber log_cosh hinge squared_hinge categorical_hinge poisson binary_accuracy categorical_accuracy
sparse_categorical_accuracy accuracy top_k_categorical_accuracy`)

var isKerasLayer = words(`Sequential Functional Model InputLayer Input Dense Activation Dropout Flatten Reshape Permute RepeatVector
Masking Embedding EinsumDense Identity Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose SeparableConv1D
SeparableConv2D DepthwiseConv1D DepthwiseConv2D Convolution1D Convolution2D MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D
AveragePooling2D AveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GlobalAveragePooling1D
GlobalAveragePooling2D GlobalAveragePooling3D AdaptiveAveragePooling2D AdaptiveMaxPooling2D LSTM LSTMCell GRU GRUCell SimpleRNN SimpleRNNCell
StackedRNNCells RNN ConvLSTM1D ConvLSTM2D ConvLSTM3D Bidirectional TimeDistributed Wrapper BatchNormalization LayerNormalization
GroupNormalization UnitNormalization RMSNormalization SpectralNormalization SpatialDropout1D SpatialDropout2D SpatialDropout3D GaussianDropout
GaussianNoise AlphaDropout ActivityRegularization Add Subtract Multiply Average Maximum Minimum Concatenate Dot ZeroPadding1D
ZeroPadding2D ZeroPadding3D Cropping1D Cropping2D Cropping3D UpSampling1D UpSampling2D UpSampling3D ReLU LeakyReLU PReLU ELU
ThresholdedReLU Softmax Attention AdditiveAttention MultiHeadAttention GroupQueryAttention Rescaling Resizing CenterCrop Normalization
Discretization CategoryEncoding Hashing IntegerLookup StringLookup TextVectorization RandomFlip RandomRotation RandomZoom
RandomCrop RandomTranslation RandomContrast RandomBrightness RandomHeight RandomWidth HashedCrossing GlorotUniform GlorotNormal HeNormal
HeUniform LecunNormal LecunUniform Zeros Ones Constant RandomNormal RandomUniform TruncatedNormal VarianceScaling Orthogonal L1 L2 L1L2 MaxNorm
NonNeg UnitNorm MinMaxNorm Adam AdamW SGD RMSprop Adagrad Adadelta Adamax Nadam Ftrl Lion Adafactor DTypePolicy Policy
QuantizedDTypePolicy ExponentialDecay CosineDecay PiecewiseConstantDecay PolynomialDecay TensorShape __tensor__ __numpy__ Identity
MeanSquaredError MeanAbsoluteError BinaryCrossentropy CategoricalCrossentropy SparseCategoricalCrossentropy Huber KLDivergence Accuracy
BinaryAccuracy CategoricalAccuracy SparseCategoricalAccuracy AUC Precision Recall Mean MeanMetricWrapper SumOverBatchSizeMetricWrapper
LossFunctionWrapper LossScaleOptimizer TopKCategoricalAccuracy SparseTopKCategoricalAccuracy MeanSquaredLogarithmicError
MeanAbsolutePercentageError RootMeanSquaredError CosineSimilarity LogCosh Hinge SquaredHinge CategoricalHinge Poisson CTC Dice
CategoricalFocalCrossentropy BinaryFocalCrossentropy TruePositives TrueNegatives FalsePositives FalseNegatives MeanIoU IoU BinaryIoU
F1Score FBetaScore R2Score Sum MelSpectrogram STFTSpectrogram RandomGrayscale RandomContrast AutoContrast Equalization Solarization
IdentityInitializer RadialConstraint OrthogonalRegularizer CosineDecayRestarts InverseTimeDecay LearningRateSchedule
CompileMetrics CompileLoss`)
